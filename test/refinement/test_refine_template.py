"""Templates in front of a wall whose features are known functions of the place, and queries that are noisier than they."""

import pytest
import torch
from refine_fixtures import CAMERA, HISTOGRAM, SCENE, moved, query_of, seeded, true_pose, wavy_wall
from torch.nn import functional as F

from aprloc_ros.covariance import residuals
from aprloc_ros.geometry import pose_errors, se3_exp
from aprloc_ros.refinement.feature_grid import FeatureGrid
from aprloc_ros.refinement.levenberg import Kernel, LevenbergSettings, minimise
from aprloc_ros.refinement.rendering.surface import choose_pixels, render_surface
from aprloc_ros.refinement.rendering.template import RAYS, Template, crosses, fit

FIELD, T_TRUE = wavy_wall(), true_pose()
FEATURES = F.normalize(query_of(FIELD, T_TRUE)[1][0], dim=0)
PIXELS = choose_pixels(torch.ones(CAMERA.height, CAMERA.width), 400, seeded())
MANY = choose_pixels(torch.ones(CAMERA.height, CAMERA.width), 1200, seeded())
LEAST_SQUARES = Kernel(shape=2.0)


def surface(T=T_TRUE, pixels=None):
    with torch.no_grad():
        return render_surface(FIELD, SCENE, CAMERA, crosses(PIXELS) if pixels is None else pixels, T[None], HISTOGRAM)


def settled(template, features, T, steps, kernel=LEAST_SQUARES):
    seen = []
    found = fit(template, FeatureGrid.of(features, CAMERA), T, kernel, 1e-9, 1e-9, lambda done: done < steps, seen.append)
    assert len(seen) <= steps and (not seen or torch.equal(seen[-1], found.T_map_cam))
    return found


def noisy(seed, share):
    """The query's features with noise that has that share [H, W] of their length."""
    return F.normalize(FEATURES + share * F.normalize(torch.randn(FEATURES.shape, generator=seeded(seed)), dim=0), dim=0)


def test_rays_stand_around_their_point():
    rays = crosses(torch.tensor([[10.0, 20.0], [3.0, 4.0]])).view(2, RAYS, 2)
    assert torch.equal(rays.mean(1), torch.tensor([[10.0, 20.0], [3.0, 4.0]]))
    assert torch.equal(rays[0], torch.tensor([[11.0, 20.0], [9.0, 20.0], [10.0, 21.0], [10.0, 19.0]]))


def test_points_and_descriptors_are_the_walls():
    template = Template.of(surface())
    straight = surface(pixels=PIXELS)
    assert (template.points - straight.points[0]).norm(dim=-1).median() < 0.01
    assert F.cosine_similarity(template.descriptors, straight.descriptors[0]).median() > 0.99
    torch.testing.assert_close(template.descriptors.norm(dim=-1), torch.ones(len(PIXELS)))
    assert template.weights.min() >= 0 and template.weights.median() > 0.8


def test_slopes_are_the_walls_features_by_pixel():
    """Against the exact features of the points at which rays half a pixel aside meet the wall."""
    template, h = Template.of(surface()), 0.5

    def exact(du, dv):
        points = surface(pixels=PIXELS + torch.tensor([du, dv], dtype=torch.float64)).points[0]
        return F.normalize(FIELD.feature(SCENE.points_to_scene(points).float()), dim=-1)
    for axis, (du, dv) in enumerate(((h, 0.0), (0.0, h))):
        expected = (exact(du, dv) - exact(-du, -dv)) / (2 * h)
        assert (template.slopes[:, axis] - expected).norm(dim=-1).median() < 0.1 * expected.norm(dim=-1).median()
    torch.testing.assert_close(template.metric[:, 0, 1], (template.slopes[:, 0] * template.slopes[:, 1]).sum(-1).double())


def test_the_gradient_is_that_of_the_displacement():
    """D^T r is linear in the pose near the truth, with D^T D J as its derivative, by differences along all six directions."""
    template, grid = Template.of(surface()), FeatureGrid.of(FEATURES, CAMERA)
    at = template.residuals(grid, T_TRUE)
    expected = at.metric[0] @ at.jacobian[0]
    for i, step in enumerate([2e-3] * 3 + [1e-3] * 3):
        xi = torch.zeros(6, dtype=torch.float64)
        xi[i] = step
        there, back = (template.residuals(grid, T_TRUE @ se3_exp(sign * xi)).slope[0] for sign in (1, -1))
        found = (there - back) / (2 * step)
        off = (found - expected[..., i]).norm(dim=-1) / expected[..., i].norm(dim=-1).clamp_min(1e-3)
        assert off.median() < 0.15


def test_points_out_of_view_say_nothing():
    turned = T_TRUE @ se3_exp(torch.tensor([0.0, 0, 0, 0, 0.5, 0], dtype=torch.float64))
    r = Template.of(surface()).residuals(FeatureGrid.of(FEATURES, CAMERA), turned)
    assert 0 < r.seen.sum() < r.seen.numel()
    assert not r.slope[~r.seen].any() and not r.metric[~r.seen].any()


@pytest.mark.parametrize('seed', range(3))
def test_a_near_pose_is_led_to_the_truth(seed):
    near = moved(T_TRUE, 0.03, 0.7, seed)
    found = settled(Template.of(surface(near)), FEATURES, near, 6)
    metres, degrees = pose_errors(found.T_map_cam, T_TRUE)
    assert metres < 0.002 and degrees < 0.05


def along_its_own_slopes(template, features, T, steps, **stretch):
    """Where Levenberg and Marquardt lead the same points along the slopes of the query's features; xi to the truth [6]."""
    grid = FeatureGrid.of(features, CAMERA)
    found = minimise(T[None], lambda T: grid.residuals(template.points[None], template.descriptors[None], T),
                     template.weights[None], len(FEATURES), LevenbergSettings(kernel=LEAST_SQUARES, **stretch),
                     lambda done: done < steps)
    return residuals(found.T_map_cam[0], T_TRUE)


def test_steps_are_as_long_as_they_should_be_in_noise():
    near = moved(T_TRUE, 0.02, 0.5)
    template = Template.of(surface(near, crosses(MANY)))
    way = residuals(near, T_TRUE)
    queries = [noisy(seed, 0.6) for seed in range(6)]
    ours = torch.stack([residuals(settled(template, q, near, 1).T_map_cam, T_TRUE) for q in queries]).mean(0)
    theirs = torch.stack([along_its_own_slopes(template, q, near, 1, stretch=1.0, longest_stretch=1.0) for q in queries]).mean(0)
    remaining, remaining_theirs = (xi @ way / (way @ way) for xi in (ours, theirs))
    assert remaining.abs() < 0.15 and remaining_theirs > 0.8


def test_noise_that_grows_towards_the_border_does_not_draw_the_pose_back():
    """Along a query's own slopes it does: residuals are smaller in the middle, where there is less of it."""
    u, v = torch.meshgrid(torch.linspace(-1, 1, CAMERA.width), torch.linspace(-1, 1, CAMERA.height), indexing='xy')
    template = Template.of(surface(pixels=crosses(MANY)))
    queries = [noisy(seed, 1.2 * torch.maximum(u.abs(), v.abs()) ** 2) for seed in range(8)]
    ours_m = torch.stack([residuals(settled(template, q, T_TRUE, 6).T_map_cam, T_TRUE)[2] for q in queries])
    theirs_m = torch.stack([along_its_own_slopes(template, q, T_TRUE, 30)[2] for q in queries])
    assert theirs_m.mean() > 0.006 and ours_m.mean().abs() < 0.003
    assert ours_m.mean().abs() < 3 * ours_m.std() / len(queries) ** 0.5


def test_a_fit_without_points_stays():
    template = Template.of(surface())
    nothing = Template(template.points, template.descriptors, template.slopes, template.metric, torch.zeros_like(template.weights))
    assert torch.equal(settled(nothing, FEATURES, T_TRUE, 3).T_map_cam, T_TRUE)
