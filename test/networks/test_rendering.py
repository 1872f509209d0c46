import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from field_fixtures import FAR, NEAR, Analytic, seeded, some_rays, wall

from aprloc_ros.fields.rendering import (
    RayBatch,
    Samples,
    Weights,
    importance_edges,
    interval_weights,
    render_rays,
    uniform_edges,
)


class Given(Analytic):
    """A field that says the same samples whatever it is asked."""

    def __init__(self, samples):
        super().__init__(None, coarse_samples=samples.density.shape[1])
        self.samples = samples

    def fine(self, points, directions, histogram, *, transient, features=False):
        return self.samples


def forward_rays(count=3):
    return RayBatch(torch.zeros(count, 3), torch.tensor([0.0, 0.0, 1.0]).expand(count, 3), torch.zeros(count, 10))


# ---- quadrature

def test_interval_weights_against_the_product_of_transparencies():
    density = torch.rand(4, 9, generator=seeded(), dtype=torch.float64)
    lengths = torch.rand(4, 9, generator=seeded(1), dtype=torch.float64)
    alpha = 1 - np.exp(-(density * lengths).numpy())
    expected = alpha * np.cumprod(np.concatenate([np.ones((4, 1)), 1 - alpha[:, :-1]], 1), 1)
    np.testing.assert_allclose(interval_weights(density, lengths).numpy(), expected, rtol=1e-12)


def test_a_huge_backdrop_does_not_drown_what_lies_before_it():
    """In a running sum over all intervals, less the own one, 1e10 would swallow every weight before it."""
    density = torch.tensor([[0.3, 1.2, 0.01, 2.0, 5.0]])
    lengths = torch.tensor([[0.5, 0.25, 0.5, 0.1, 1e10]])
    optical = (density * lengths)[0, :-1].double().numpy()
    light = np.exp(-np.concatenate([[0], np.cumsum(optical)]))
    expected = [*light[:-1] * (1 - np.exp(-optical)), light[-1]]
    weights = interval_weights(density, lengths)
    np.testing.assert_allclose(weights[0].numpy(), expected, rtol=1e-5)
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize('sigma', [1e-8, 1e-3, 1.0, 50.0, 1e6])
def test_weights_with_the_backdrop_sum_to_one_and_never_to_more(sigma):
    field = Analytic(lambda points: sigma * (2 + points[..., 0].sin()), fine_samples=24)
    rendering = render_rays(field, some_rays(200), NEAR, FAR, generator=seeded())
    for weights in (rendering.static.weights, rendering.coarse.weights):
        assert weights.min() >= 0
        torch.testing.assert_close(weights.sum(-1), torch.ones(200), atol=2e-6, rtol=0)
    assert rendering.opacity.max() <= 1 + 2e-6


def test_an_empty_ray_is_black_and_transparent():
    rendering = render_rays(Analytic(lambda points: torch.zeros(points.shape[:-1])), some_rays(), NEAR, FAR)
    assert rendering.rgb.abs().max() == rendering.opacity.max() == rendering.depth.max() == 0


def test_gradients_of_the_quadrature():
    density = torch.rand(3, 6, generator=seeded(), dtype=torch.float64, requires_grad=True)
    lengths = torch.rand(3, 6, generator=seeded(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: interval_weights(d, lengths), density)


# ---- rays through known scenes

@pytest.mark.parametrize('sigma', [0.05, 0.5, 2.0])
def test_homogeneous_medium(sigma):
    """Opacity 1 - exp(-sigma d) along the oblique ray, up to where the backdrop begins."""
    rays = some_rays()
    field = Analytic(lambda points: torch.full(points.shape[:-1], sigma), coarse_samples=400)
    rendering = render_rays(field, rays, NEAR, FAR)
    slant = rays.directions.norm(dim=-1).double()
    thickness = FAR - NEAR - (FAR - NEAR) / 400
    torch.testing.assert_close(rendering.opacity.double(), 1 - torch.exp(-sigma * thickness * slant),
                               atol=1e-5, rtol=0)
    rate = sigma * slant  # expected depth: the mean of an exponential distribution, its tail at the far end
    expected = NEAR + (1 - torch.exp(-rate * (FAR - NEAR))) / rate
    torch.testing.assert_close(rendering.depth.double(), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize('depth', [0.8, 2.0, 4.3])
def test_a_wall_gives_its_depth_and_colour(depth):
    rays = some_rays()
    rays = replace(rays, origins=torch.zeros(20, 3))
    rendering = render_rays(wall(depth), rays, NEAR, FAR)
    cell = (FAR - NEAR) / 256
    assert (rendering.depth - depth).abs().max() <= cell
    assert (rendering.rgb - (depth * rays.directions).sigmoid()).abs().max() <= cell
    assert rendering.opacity.min() > 0.999


def test_importance_sampling_finds_a_wall_more_exactly():
    coarse, fine = wall(2.03), wall(2.03)
    coarse.coarse_samples = fine.coarse_samples = 32
    fine.fine_samples = 64
    error = [(render_rays(field, forward_rays(), NEAR, FAR).depth - 2.03).abs().max() for field in (coarse, fine)]
    assert error[1] < 0.02 < error[0]


def test_a_veil_before_a_wall_mixes_their_colours():
    """A thin red sheet that lets exp(-0.7) of the light through, before a green wall."""
    def density(points):
        z = points[..., 2]
        return 0.7 / 0.5 * ((z > 1) & (z < 1.5)).float() + 1e4 * (z > 3).float()

    def rgb(points):
        behind = (points[..., 2:] > 2).float()
        return torch.cat([1 - behind, behind, torch.zeros_like(behind)], -1)

    rendering = render_rays(Analytic(density, rgb, coarse_samples=400), forward_rays(), NEAR, FAR)
    through = math.exp(-0.7)
    torch.testing.assert_close(rendering.rgb, torch.tensor([1 - through, through, 0]).expand(3, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(rendering.depth, torch.full((3,), (1 - through) * 1.25 + through * 3), atol=0.02, rtol=0)


def slow_nerf_w(samples, lengths, beta_min):
    """One ray by NeRF-W's equations: the colour of both heads, and the variance R(r, beta, sigma_transient)."""
    colour, beta = np.zeros(3), beta_min
    for k, length in enumerate(lengths):
        light = transient_light = 1.0
        for j in range(k):
            light *= math.exp(-(samples['static'][j] + samples['transient'][j]) * lengths[j])
            transient_light *= math.exp(-samples['transient'][j] * lengths[j])
        alpha_static = 1 - math.exp(-samples['static'][k] * length)
        alpha_transient = 1 - math.exp(-samples['transient'][k] * length)
        colour += light * (alpha_static * samples['rgb'][k] + alpha_transient * samples['transient_rgb'][k])
        beta += transient_light * alpha_transient * samples['beta'][k]
    return colour, beta


def test_static_and_transient_compositing_against_a_double_loop():
    rays, count = some_rays(5), 12
    density, transient, beta = 2 * torch.rand(3, 5, count, generator=seeded(), dtype=torch.float64)
    transient[:2, -1] = density[1, -1] = 0   # rays that end in neither head's backdrop, or in one's
    rgb, transient_rgb = torch.rand(2, 5, count, 3, generator=seeded(1), dtype=torch.float64)
    field = Given(Samples(density, rgb, transient, transient_rgb, beta))
    rendering = render_rays(field, rays, NEAR, FAR, transient=True)
    for ray in range(5):
        lengths = [(FAR - NEAR) / count * rays.directions[ray].norm().item()] * (count - 1) + [1e10]
        samples = {'static': density[ray].numpy(), 'transient': transient[ray].numpy(), 'rgb': rgb[ray].numpy(),
                   'transient_rgb': transient_rgb[ray].numpy(), 'beta': beta[ray].numpy()}
        colour, deviation = slow_nerf_w(samples, lengths, Given.beta_min)
        np.testing.assert_allclose(rendering.rgb[ray].numpy(), colour, rtol=1e-5)
        assert rendering.beta[ray].item() == pytest.approx(deviation, rel=1e-5)
    static = render_rays(Given(Samples(density, rgb)), rays, NEAR, FAR)
    torch.testing.assert_close(rendering.depth, static.depth)     # geometry is the static scene's alone
    torch.testing.assert_close(rendering.opacity, static.opacity)
    assert torch.equal(rendering.transient_density, transient) and static.beta is None


# ---- where to sample

def test_uniform_edges():
    rays = some_rays(50)
    torch.testing.assert_close(uniform_edges(rays, 1.0, 3.0, 4, None), torch.tensor([1, 1.5, 2, 2.5, 3]).expand(50, 5))
    jittered = uniform_edges(rays, 1.0, 3.0, 4, seeded())
    assert (jittered.diff(dim=-1) >= 0).all() and (jittered[:, 0] == 1).all() and (jittered[:, -1] == 3).all()
    assert (jittered - uniform_edges(rays, 1.0, 3.0, 4, None)).abs().max() <= 0.25
    assert jittered[:, 1:-1].std(0).min() > 0.1
    assert torch.equal(jittered, uniform_edges(rays, 1.0, 3.0, 4, seeded()))


def random_weights(rays=40, samples=16, sharpness=6):
    logits = sharpness * torch.randn(rays, samples, generator=seeded())
    return Weights(torch.linspace(NEAR, FAR, samples + 1).expand(rays, -1), logits.softmax(-1))


@pytest.mark.parametrize('generator', [None, seeded()], ids=['fixed', 'stratified'])
def test_importance_edges_are_monotone_within_near_and_far(generator):
    edges = importance_edges(random_weights(), 24, generator)
    assert edges.shape == (40, 25) and torch.isfinite(edges).all()
    assert (edges.diff(dim=-1) >= 0).all() and edges.min() >= NEAR and edges.max() <= FAR


def test_importance_edges_lie_at_the_quantiles_of_the_weights():
    coarse = random_weights(sharpness=1)
    edges = importance_edges(coarse, 24, None)
    for ray in range(40):
        cdf = np.concatenate([[0], np.cumsum(coarse.weights[ray].double().numpy())])
        expected = np.interp(np.linspace(0, 1, 25), cdf, coarse.edges[ray].numpy())
        np.testing.assert_allclose(edges[ray].numpy(), expected, atol=0.02)


def test_importance_edges_lie_where_the_weight_is():
    weights = torch.zeros(1, 40)
    weights[0, 10] = weights[0, 30] = 0.5
    coarse = Weights(torch.linspace(0, 4, 41).expand(1, -1), weights)
    edges = importance_edges(coarse, 200, None)[0]
    first, second = ((edges >= start) & (edges <= start + 0.1) for start in (1.0, 3.0))
    assert 95 <= first.sum() <= 105 and 95 <= second.sum() <= 105
    assert (first | second).float().mean() > 0.97


@pytest.mark.parametrize('weights', [torch.zeros(2, 8), torch.full((2, 8), 0.125)], ids=['empty', 'even'])
def test_importance_edges_are_even_where_nothing_is_known(weights):
    coarse = Weights(torch.linspace(0, 1, 9).expand(2, -1), weights)
    torch.testing.assert_close(importance_edges(coarse, 10, None), torch.linspace(0, 1, 11).expand(2, -1))


def test_no_gradient_moves_the_samples():
    coarse = random_weights()
    weights = coarse.weights.requires_grad_()
    assert not importance_edges(replace(coarse, weights=weights), 8, None).requires_grad
