"""Slopes that were derived by hand, against autograd, finite differences and PyTorch's own sampling."""

import pytest
import torch
from refine_fixtures import seeded
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.feature_grid import FeatureGrid, pooled, project

CAMERA = Camera(24, 18, 20.0, 22.0, 11.3, 8.9)


def some_points(starts=2, count=30, seed=0):
    """Poses [S, 4, 4] and points [S, N, 3] in front of them, some out of view."""
    generator = seeded(seed)
    T = se3_exp(0.5 * torch.randn(starts, 6, generator=generator, dtype=torch.float64))
    in_camera = torch.randn(starts, count, 3, generator=generator, dtype=torch.float64) * torch.tensor([0.8, 0.6, 0.5])
    in_camera[..., 2] = in_camera[..., 2].abs() + 0.8
    return T, in_camera @ T[:, :3, :3].mT + T[:, None, :3, 3]


def grid(channels=5, seed=1):
    features = torch.randn(channels, CAMERA.height, CAMERA.width, generator=seeded(seed), dtype=torch.float64)
    return FeatureGrid.of(features, CAMERA), features


def numeric(function, at, step=1e-6):
    """Central differences of function(xi) [...] at [6] -> [..., 6]."""
    eye = step * torch.eye(6, dtype=torch.float64)
    return torch.stack([(function(at + d) - function(at - d)) / (2 * step) for d in eye], -1)


def test_the_projections_derivative_is_autograds_and_that_of_finite_differences():
    T, points = some_points()
    pixels, jacobian, _ = project(points, T, CAMERA)

    def moved(xi):
        return project(points, T @ se3_exp(xi), CAMERA)[0]
    zero = torch.zeros(6, dtype=torch.float64)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(moved, zero))
    torch.testing.assert_close(jacobian, numeric(moved, zero), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pixels, moved(zero))


def test_points_behind_the_camera_are_not_seen_and_stay_finite():
    T = torch.eye(4, dtype=torch.float64)[None]
    points = torch.tensor([[[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.1, 0.1, 1.0], [9.0, 0.0, 1.0]]], dtype=torch.float64)
    pixels, jacobian, seen = project(points, T, CAMERA)
    assert seen.tolist() == [[False, False, True, False]]
    assert torch.isfinite(pixels).all() and torch.isfinite(jacobian).all()


def test_sampling_is_grid_samples_inside_and_beyond_the_border():
    sampled, features = grid()
    pixels = torch.rand(200, 2, generator=seeded(2), dtype=torch.float64) * torch.tensor([30.0, 24.0]) - 3
    value, _, _ = sampled.sample(pixels)
    normalised = (2 * pixels + 1) / torch.tensor([CAMERA.width, CAMERA.height]) - 1
    expected = F.grid_sample(features[None], normalised[None, None], align_corners=False, padding_mode='border')
    torch.testing.assert_close(value, expected[0, :, 0].T)


def test_the_slope_of_sampling_is_autograds_and_that_of_finite_differences():
    sampled, features = grid()
    pixels = torch.rand(100, 2, generator=seeded(3), dtype=torch.float64) * torch.tensor([28.0, 22.0]) - 2
    _, du, dv = sampled.sample(pixels)

    def reference(pixels):
        normalised = (2 * pixels + 1) / torch.tensor([CAMERA.width, CAMERA.height]) - 1
        return F.grid_sample(features[None], normalised[None, None], align_corners=False, padding_mode='border')[0, :, 0]
    jacobian = torch.autograd.functional.jacobian(lambda p: reference(p).sum(1), pixels)   # each channel: [N, 2]
    torch.testing.assert_close(torch.stack([du, dv], -1).transpose(0, 1), jacobian)
    step = 1e-6
    for axis, slope in enumerate((du, dv)):
        shift = step * torch.eye(2, dtype=torch.float64)[axis]
        difference = (sampled.sample(pixels + shift)[0] - sampled.sample(pixels - shift)[0]) / (2 * step)
        torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-6)


def test_values_at_the_last_pixels_are_the_maps_own():
    sampled, features = grid()
    corners = torch.tensor([[0.0, 0.0], [23.0, 0.0], [0.0, 17.0], [23.0, 17.0]], dtype=torch.float64)
    value, _, _ = sampled.sample(corners)
    torch.testing.assert_close(value, torch.stack([features[:, 0, 0], features[:, 0, 23], features[:, 17, 0], features[:, 17, 23]]))


@pytest.mark.parametrize('derivative', [torch.autograd.functional.jacobian, numeric])
def test_slope_and_metric_are_those_of_the_whole_residual(derivative):
    T, points = some_points()
    sampled, _ = grid()
    descriptors = torch.randn(2, 30, 5, generator=seeded(5), dtype=torch.float64)
    found = sampled.residuals(points, descriptors, T)

    def whole(xi):
        pixels = project(points, T @ se3_exp(xi), CAMERA)[0]
        return sampled.sample(pixels.flatten(0, 1))[0].view_as(descriptors) - descriptors
    zero = torch.zeros(6, dtype=torch.float64)
    r, J = whole(zero), derivative(whole, zero)
    seen = found.seen
    assert 10 < seen.sum() < seen.numel()
    gradient = (found.slope.unsqueeze(-2) @ found.jacobian).squeeze(-2)
    torch.testing.assert_close(gradient[seen], torch.einsum('snc,sncx->snx', r, J)[seen], rtol=1e-4, atol=1e-4)
    hessian = found.jacobian.mT @ found.metric @ found.jacobian
    torch.testing.assert_close(hessian[seen], torch.einsum('sncx,sncy->snxy', J, J)[seen], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.squared[seen], r.square().sum(-1)[seen])
    assert (found.slope[~seen] == 0).all() and (found.metric[~seen] == 0).all()


@pytest.mark.parametrize('factor', [1, 2, 3, 4])
def test_a_pooled_map_shows_the_same_thing_at_the_same_direction(factor):
    """Features that are linear in the ray's direction survive averaging exactly, if the pooled camera is right."""
    camera = Camera(41, 30, 35.0, 33.0, 19.0, 14.2)   # neither side is a multiple of every factor
    directions = camera.directions().double()
    # One large constant channel: making it of unit length then hardly bends the others.
    features = torch.stack([1e-3 * directions[..., 0], 1e-3 * directions[..., 1], torch.ones(30, 41, dtype=torch.float64)])
    averaged = pooled(F.normalize(features, dim=0), camera, factor)
    points = torch.tensor([[[0.1, -0.2, 1.0], [-0.3, 0.1, 1.0], [0.0, 0.0, 2.0]]], dtype=torch.float64)
    pixels, _, seen = project(points, torch.eye(4, dtype=torch.float64)[None], averaged.camera)
    value, _, _ = averaged.sample(pixels[0])
    assert seen.all()
    torch.testing.assert_close(1e3 * value[:, :2].double(), (points[0] / points[0, :, 2:])[:, :2], rtol=0, atol=1e-4)


def test_pooled_features_have_unit_length():
    features = F.normalize(torch.randn(6, 20, 30, generator=seeded(8)), dim=0)
    for factor in (4, 2, 1):
        sampled = pooled(features, Camera(30, 20, 20.0, 20.0, 14.5, 9.5), factor)
        torch.testing.assert_close(sampled.cells.norm(dim=1), torch.ones(len(sampled.cells)))
        assert sampled.cells.shape == (sampled.camera.height * sampled.camera.width, 6)
