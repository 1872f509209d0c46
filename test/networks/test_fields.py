import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from field_fixtures import FAR, NEAR, seeded, some_rays, wall

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields import build_field
from aprloc_ros.fields.encodings import FrequencyEncoding
from aprloc_ros.fields.rendering import RayBatch, render_rays
from aprloc_ros.fields.views import render_view
from aprloc_ros.geometry import se3_exp
from aprloc_ros.scene import SceneNormalisation

BOUNDS = [[-1.0, -2.0, 0.0], [3.0, 2.0, 1.0]]
SMALL = {
    'nerf': {'bands': 3, 'direction_bands': 2, 'depth': 6, 'width': 16, 'coarse_samples': 12},
    'nerf_hist': {'bands': 3, 'direction_bands': 2, 'depth': 6, 'width': 16, 'coarse_samples': 8, 'fine_samples': 6,
                  'static_embedding': 5, 'transient_embedding': 4},
    'nefes': {'bands': 3, 'direction_bands': 2, 'depth': 6, 'width': 16, 'coarse_samples': 8, 'fine_samples': 6,
              'transient_embedding': 4, 'feature_channels': 5, 'fusion_hidden': 4},
    'planes': {'bounds': BOUNDS, 'plane_sizes': [8, 16], 'grid_size': 6, 'features': 3, 'hidden': 16,
               'proposal_size': 8, 'coarse_samples': 12, 'fine_samples': 7, 'embedding': 5}}
KINDS = list(SMALL)


def small_field(kind, seed=0):
    """A field of random weights, with a density high enough that each part of it matters."""
    torch.manual_seed(seed)
    return build_field(kind, SMALL[kind])


# ---- encodings

@pytest.mark.parametrize('alpha', [0.0, 0.25, 1.0, 1.5, 2.9, 4.0])
def test_encoding_is_direct_posenets_equations_7_and_8(alpha):
    encoding = FrequencyEncoding(4)
    encoding.set_progress(alpha / 4)
    p = (0.31, -0.72, 1.4)
    expected = list(p)
    for k in range(4):
        weight = (1 - math.cos(math.pi * min(max(alpha - k, 0), 1))) / 2
        expected += [weight * math.sin(2 ** k * math.pi * x) for x in p]
        expected += [weight * math.cos(2 ** k * math.pi * x) for x in p]
    np.testing.assert_allclose(encoding(torch.tensor(p)).numpy(), expected, atol=2e-6)


def test_encoding_is_fully_on_when_nothing_is_said():
    encoding = FrequencyEncoding(10)
    x = torch.rand(2, 5, 3)
    before = encoding(x)
    assert before.shape == (2, 5, 63) == (2, 5, encoding.channels)
    encoding.set_progress(1.0)
    assert torch.equal(encoding(x), before)


# ---- the four kinds

@pytest.mark.parametrize('kind', KINDS)
def test_one_interface(kind):
    field = small_field(kind)
    field.set_progress(1.0)
    rendering = render_rays(field, some_rays(), NEAR, FAR)
    assert rendering.rgb.shape == (20, 3) and 0 <= rendering.rgb.min() and rendering.rgb.max() <= 1
    assert rendering.depth.shape == rendering.opacity.shape == (20,)
    assert rendering.static.edges.shape[1] == rendering.static.weights.shape[1] + 1
    assert (rendering.static.edges.diff(dim=-1) >= 0).all()
    again = render_rays(field, some_rays(), NEAR, FAR)
    assert torch.equal(rendering.rgb, again.rgb) and torch.equal(rendering.depth, again.depth)
    assert rendering.beta is None and (rendering.coarse is None) == (kind == 'nerf')


@pytest.mark.parametrize('kind', KINDS)
def test_stratified_samples_follow_their_seed(kind):
    field, rays = small_field(kind), some_rays()
    first, same, other = (render_rays(field, rays, NEAR, FAR, generator=seeded(seed)).depth for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)


@pytest.mark.parametrize('kind, arguments, complaint', [
    ('gaussians', {}, "field kind 'gaussians' is not one of nerf, nerf_hist, nefes, planes"),
    ('nerf', {'colour': 3}, "field nerf: unknown argument 'colour'; allowed: bands, direction_bands, depth, width"),
    ('nerf', {'width': 'wide'}, "field nerf: width is 'wide'; it must be a whole number from 1"),
    ('nerf', {'width': -4}, 'width is -4; it must be a whole number from 1'),
    ('nerf', {'coarse_samples': 0}, 'coarse_samples is 0; it must be a whole number from 1'),
    ('nerf_hist', {'depth': 2.5}, 'depth is 2.5; it must be a whole number from 1'),
    ('nerf_hist', {'beta_min': 0.0}, 'beta_min is 0.0; it must be a number above 0'),
    ('nerf_hist', {'beta_min': math.nan}, 'beta_min is nan; it must be a number above 0'),
    ('nerf_hist', {'width': 10 ** 12}, 'do not build'),
    ('nefes', {'feature_channels': -1}, 'feature_channels is -1; it must be a whole number from 0'),
    ('nefes', {'exposure': 'sun'}, "exposure is 'sun'; it must be one of embedding, act, none"),
    ('nefes', {'exposure': ['act']}, 'it must be one of embedding, act, none'),
    ('planes', {**SMALL['planes'], 'fusion_hidden': True}, 'fusion_hidden is True; it must be a whole number from 0'),
    ('planes', {**SMALL['planes'], 'feature_plane_sizes': [0]}, 'feature_plane_sizes .0. must be whole numbers from 1'),
    ('planes', {}, 'do not build: .*bounds'),
    ('planes', {**SMALL['planes'], 'bounds': [[0, 0, 0]]}, 'do not build'),
    ('planes', {**SMALL['planes'], 'bounds': [[0, 0], [1, 1]]}, 'must be the lowest, then the highest corner'),
    ('planes', {**SMALL['planes'], 'bounds': BOUNDS[::-1]}, 'must be the lowest, then the highest corner'),
    ('planes', {**SMALL['planes'], 'bounds': [['a', 0, 0], [1, 1, 1]]}, 'do not build'),
    ('planes', {**SMALL['planes'], 'plane_sizes': 16}, 'do not build'),
    ('planes', {**SMALL['planes'], 'plane_sizes': []}, 'must be whole numbers from 1'),
    ('planes', {**SMALL['planes'], 'plane_sizes': [8, -2]}, 'must be whole numbers from 1'),
    ('planes', {**SMALL['planes'], 'plane_sizes': [8.5]}, 'do not build')])
def test_build_field_refuses_in_one_line(kind, arguments, complaint):
    with pytest.raises(AprlocError, match=complaint) as refusal:
        build_field(kind, arguments)
    assert '\n' not in str(refusal.value)


def linear(inputs, outputs):
    return inputs * outputs + outputs


def trunk(channels):
    """Eight layers of 128 with the input fed in again at the fifth."""
    return linear(channels, 128) + 6 * linear(128, 128) + linear(128 + channels, 128)


def colour(extra):
    return linear(128, 128) + linear(128 + extra, 64) + linear(64, 3)


def test_parameter_counts_of_the_papers_sizes():
    """Depth 8, width 128, view branch 64, transient head of 3 x 64; embeddings of 50 and 20."""
    def count(kind):
        return sum(parameter.numel() for parameter in build_field(kind, {}).parameters())

    assert count('nerf') == trunk(3 + 6 * 8) + linear(128, 1) + colour(27)
    transient = linear(128 + 20, 64) + 2 * linear(64, 64) + linear(64, 5)
    expected = 2 * (trunk(63) + linear(128, 1) + colour(27 + 50)) + transient + linear(10, 50) + linear(10, 20)
    assert count('nerf_hist') == expected
    field = build_field('nerf_hist', {})
    assert (field.coarse_samples, field.fine_samples, field.beta_min) == (64, 64, 0.1)
    assert build_field('nerf', {}).coarse_samples == 128


@pytest.mark.parametrize('kind', ['nerf_hist', 'nefes', 'planes'])
def test_without_transients_the_static_scene_is_left(kind):
    field, rays = small_field(kind), some_rays()
    both = render_rays(field, rays, NEAR, FAR, transient=True)
    before = render_rays(field, rays, NEAR, FAR)
    assert not torch.allclose(both.rgb, before.rgb, atol=1e-3)
    assert both.beta.min() >= field.beta_min
    torch.testing.assert_close(both.depth, before.depth)
    with torch.no_grad():
        for parameter in field.transient.parameters():
            parameter.normal_()
    assert torch.equal(render_rays(field, rays, NEAR, FAR).rgb, before.rgb)


@pytest.mark.parametrize('kind', ['nerf_hist', 'nefes', 'planes'])
def test_histogram_changes_colour_but_not_density(kind):
    field, rays = small_field(kind), some_rays()
    dark, bright = (replace(rays, histogram=torch.eye(10)[i].expand(20, 10)) for i in (0, 9))
    a, b = (render_rays(field, r, NEAR, FAR) for r in (dark, bright))
    assert (a.rgb - b.rgb).abs().max() > 1e-3
    assert torch.equal(a.static.weights, b.static.weights) and torch.equal(a.static.edges, b.static.edges)
    assert torch.equal(a.depth, b.depth) and torch.equal(a.coarse.weights, b.coarse.weights)


def test_the_plain_nerf_knows_one_exposure():
    field, rays = small_field('nerf'), some_rays()
    other = replace(rays, histogram=torch.eye(10)[3].expand(20, 10))
    assert torch.equal(render_rays(field, rays, NEAR, FAR).rgb, render_rays(field, other, NEAR, FAR).rgb)


@pytest.mark.parametrize('kind', KINDS)
def test_direction_changes_colour_but_not_density(kind):
    field, rays = small_field(kind), some_rays()
    points = rays.points(torch.linspace(NEAR, FAR, 5).expand(20, -1))
    a = field.fine(points, rays.directions, rays.histogram, transient=False)
    b = field.fine(points, rays.directions.flip(0), rays.histogram, transient=False)
    assert torch.equal(a.density, b.density) and (a.rgb - b.rgb).abs().max() > 1e-3
    longer = field.fine(points, 3 * rays.directions, rays.histogram, transient=False)
    torch.testing.assert_close(longer.rgb, a.rgb)  # how long a direction is means nothing


@pytest.mark.parametrize('kind', ['nerf', 'nerf_hist', 'nefes'])
def test_the_schedule_starts_without_high_frequencies(kind):
    field, rays = small_field(kind), some_rays()

    def changed_by_other_frequencies(progress):
        field.set_progress(progress)
        before = render_rays(field, rays, NEAR, FAR).rgb
        original = [(encoding, encoding.frequencies) for encoding in (field.position, field.direction)]
        for encoding, frequencies in original:
            encoding.frequencies = 1.37 * frequencies
        after = render_rays(field, rays, NEAR, FAR).rgb
        for encoding, frequencies in original:
            encoding.frequencies = frequencies
        return (after - before).abs().max().item()

    assert changed_by_other_frequencies(0.0) == 0.0
    assert changed_by_other_frequencies(0.5) > 0
    assert changed_by_other_frequencies(1.0) > 1e-4


@pytest.mark.parametrize('kind', KINDS)
def test_training_reaches_every_parameter(kind):
    field = small_field(kind)
    rendering = render_rays(field, some_rays(400), NEAR, FAR, transient=True, features=True, generator=seeded())
    loss = rendering.rgb.square().sum()
    if field.fusion is not None:
        loss = loss + field.fusion(rendering.static_rgb.T.view(1, 3, 20, 20),
                                   rendering.features.T.view(1, -1, 20, 20)).pow(3).sum()
    if rendering.beta is not None:
        loss = loss + rendering.beta.sum() + rendering.transient_density.sum()
    if rendering.coarse is not None:  # a proposal learns from its weights, a base network from its colours
        loss = loss + (rendering.coarse.weights * torch.rand(rendering.coarse.weights.shape)).sum()
    if rendering.coarse_rgb is not None:
        loss = loss + rendering.coarse_rgb.square().sum()
    loss.backward()
    untouched = [name for name, parameter in field.named_parameters()
                 if parameter.grad is None or not parameter.grad.abs().max() > 0]
    assert not untouched
    assert all(torch.isfinite(parameter.grad).all() for parameter in field.parameters())


@pytest.mark.parametrize('kind', KINDS)
def test_half_precision_weights_render_almost_the_same(kind):
    field, other = small_field(kind), small_field(kind, seed=1)
    rays = some_rays(100)
    before = render_rays(field, rays, NEAR, FAR)
    assert (render_rays(other, rays, NEAR, FAR).rgb - before.rgb).abs().max() > 0.02
    other.load_state_dict({name: value.half().float() for name, value in field.state_dict().items()})
    after = render_rays(other, rays, NEAR, FAR)
    assert (after.rgb - before.rgb).abs().max() < 5e-3
    assert (after.depth - before.depth).abs().max() < 5e-3 * (FAR - NEAR)


# ---- the planes' coordinates

def cell_coordinates(points, axis):
    """Where the planes look points [N, 3] up along an axis, -1 to 1: read from a proposal grid that is a ramp."""
    field = build_field('planes', SMALL['planes'])
    size = SMALL['planes']['proposal_size']
    ramp = torch.linspace(-1, 1, size).view([size if i == 2 - axis else 1 for i in range(3)])
    field.proposal.data = ramp.expand(1, 1, size, size, size).clone()
    with torch.no_grad():
        density = field.coarse(points.unsqueeze(0), None, None).density[0]
    return (density / 20).expm1().log()  # undoes the softplus


@pytest.mark.parametrize('axis', range(3))
def test_squash_is_linear_inside_and_bounded_and_monotone_outside(axis):
    low, high = torch.tensor(BOUNDS)
    u = torch.cat([torch.linspace(-30, 30, 2001), torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 1e6])])
    points = (low + high).div(2).repeat(len(u), 1)
    points[:, axis] += u * (high - low)[axis] / 2
    cells = cell_coordinates(points, axis)
    torch.testing.assert_close(cells[-6:], torch.tensor([-0.9, 0.0, 0.45, 0.9, 0.95, 1.0]), atol=2e-5, rtol=0)
    inside = u.abs() <= 1
    torch.testing.assert_close(cells[inside], 0.9 * u[inside], atol=2e-5, rtol=0)
    assert (cells[:2001].diff() > 0).all() and cells.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize('axis', range(3))
def test_squash_is_continuous_at_the_bounds(axis):
    low, high = torch.tensor(BOUNDS)
    middle = (low + high) / 2
    step = 1e-3 * (high - low)[axis] / 2
    for corner in (low, high):
        points = middle.repeat(3, 1)
        points[:, axis] = corner[axis] + step * torch.tensor([-1.0, 0.0, 1.0])
        assert (cell_coordinates(points, axis).diff().abs() < 1.1e-3).all()


# ---- whole pictures

CAMERA = Camera(12, 9, 10.0, 11.0, 5.2, 4.1)


def normalisation(scene_unit_m=1.0, T_map_scene=None):
    T_map_scene = torch.eye(4, dtype=torch.float64) if T_map_scene is None else T_map_scene
    return SceneNormalisation(T_map_scene, scene_unit_m=scene_unit_m, pose_unit_m=1.0, near_m=NEAR * scene_unit_m,
                              far_m=FAR * scene_unit_m, bounds=torch.tensor(BOUNDS, dtype=torch.float64))


@pytest.mark.parametrize('kind', KINDS)
def test_a_view_is_its_pixels_rays(kind):
    scene = normalisation(2.5, se3_exp(torch.tensor([1.0, 2, 3, 0.4, -0.2, 0.3], dtype=torch.float64)))
    T_map_cam = se3_exp(torch.tensor([0.5, -1, 2, -0.3, 0.8, 0.1], dtype=torch.float64))
    field, histogram = small_field(kind), some_rays(1).histogram[0]
    rgb, depth = render_view(field, scene, CAMERA, T_map_cam, histogram, chunk=17)
    assert rgb.shape == (3, 9, 12) and depth.shape == (9, 12)
    centre = T_map_cam[:3, 3]
    for v, u in [(0, 0), (0, 11), (4, 5), (8, 0), (7, 10)]:
        x_cam = torch.tensor([(u - 5.2) / 10, (v - 4.1) / 11, 1], dtype=torch.float64)
        seen_from, seen = scene.points_to_scene(centre), scene.points_to_scene(T_map_cam[:3, :3] @ x_cam + centre)
        direction = 2.5 * (seen - seen_from)  # of a point at depth 1 m, so per scene unit it is scaled
        rays = RayBatch(seen_from.float()[None], direction.float()[None], histogram[None])
        rendering = render_rays(field, rays, scene.near, scene.far)
        torch.testing.assert_close(rgb[:, v, u], rendering.rgb[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(depth[v, u], 2.5 * rendering.depth[0], atol=2e-3, rtol=0)


def test_depth_scales_with_the_scene_unit():
    T_map_cam = se3_exp(torch.tensor([0.2, 0.1, -0.3, 0.1, 0.2, 0.3], dtype=torch.float64))
    T_far = T_map_cam.clone()
    T_far[:3, 3] *= 4
    field, histogram = small_field('planes'), torch.zeros(10)
    rgb, depth = render_view(field, normalisation(1.0), CAMERA, T_map_cam, histogram)
    rgb_large, depth_large = render_view(field, normalisation(4.0), CAMERA, T_far, histogram)
    torch.testing.assert_close(rgb_large, rgb)
    torch.testing.assert_close(depth_large, 4 * depth)


def test_depth_is_metres_along_the_optical_axis():
    """A wall across the optical axis, 6 m before the camera: the same depth in every pixel, however oblique."""
    T_map_cam = torch.eye(4, dtype=torch.float64)
    T_map_cam[2, 3] = -1.0  # the wall stands at z = 5 m in the map
    rgb, depth = render_view(wall(2.0), normalisation(2.5), CAMERA, T_map_cam, torch.zeros(10))
    assert (depth - 6.0).abs().max() <= 2.5 * (FAR - NEAR) / 256
    assert rgb[0, 0, 0] < 0.5 < rgb[0, 0, 11] and rgb[1, 0, 0] < 0.5 < rgb[1, 8, 0]  # x to the right, y down


def test_a_view_takes_no_gradient():
    field = small_field('planes')
    rgb, _ = render_view(field, normalisation(), CAMERA, torch.eye(4, dtype=torch.float64), torch.zeros(10))
    assert not rgb.requires_grad
