"""What the NRE estimator is compared with: each method on matches and features whose answer is known."""

import math

import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, SCALE, Painter, cloud, truth

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose_errors, se3_exp
from aprloc_ros.refinement.feature_metric import LOSSES, feature_metric
from aprloc_ros.refinement.gnc import Pinhole, pull
from aprloc_ros.refinement.loss_maps import dense_maps, local_maps, log_coarse_within, sparse_maps
from aprloc_ros.refinement.points.minimal import msac
from aprloc_ros.training.benchmarks.rivals.reprojection import METHODS, estimate_from_matches

COARSE = CAMERA.resized(40, 30)


def seen(T_map_cam, xyz, camera=CAMERA):
    T = invert(T_map_cam)
    return camera.project(xyz @ T[:3, :3].T + T[:3, 3])


def matches(T, outliers=0.0, noise_px=0.0, seed=0):
    """Points in view, their pixels and the weights of the matches."""
    generator = torch.Generator().manual_seed(seed)
    xyz = cloud().xyz
    pixels, inside = seen(T, xyz)
    xyz, pixels = xyz[inside], pixels[inside]
    pixels = pixels + noise_px * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    lost = torch.rand(len(xyz), generator=generator) < outliers
    elsewhere = torch.rand(pixels.shape, generator=generator, dtype=torch.float64) * torch.tensor([319.0, 239.0])
    return xyz, torch.where(lost[:, None], elsewhere, pixels), torch.ones(len(xyz))


def error_px(T, T_true):
    pixels, inside = seen(T_true, cloud().xyz)
    return (seen(T, cloud().xyz)[0] - pixels)[inside].norm(dim=1).median().item()


@pytest.mark.parametrize('method', METHODS)
def test_exact_matches_give_the_exact_pose(method):
    T = truth(1)
    error_m, error_deg = pose_errors(estimate_from_matches(*matches(T), CAMERA, method), T)
    assert error_m < 1e-4 and error_deg < 2e-3


@pytest.mark.parametrize('method', METHODS)
def test_outliers_are_left_out(method):
    T = truth(2)
    found = estimate_from_matches(*matches(T, outliers=0.5, noise_px=0.5), CAMERA, method)
    assert error_px(found, T) < 0.4
    assert torch.equal(found, estimate_from_matches(*matches(T, outliers=0.5, noise_px=0.5), CAMERA, method))


def test_matches_of_no_weight_do_not_count():
    T = truth(2)
    xyz, pixels, weights = matches(T)
    pixels[::2] += 3.0
    weights[::2] = 0
    assert error_px(estimate_from_matches(xyz, pixels, weights, CAMERA, 'eq11'), T) < 1e-3


@pytest.mark.parametrize('method', METHODS)
def test_too_few_or_broken_matches_give_nothing(method):
    xyz, pixels, weights = matches(truth(1))
    assert estimate_from_matches(xyz[:3], pixels[:3], weights[:3], CAMERA, method) is None
    assert estimate_from_matches(xyz, torch.full_like(pixels, math.nan), weights, CAMERA, method) is None
    assert estimate_from_matches(xyz, pixels, torch.zeros_like(weights), CAMERA, method) is None


def test_unknown_names_and_scales_are_refused():
    found = matches(truth(1))
    with pytest.raises(AprlocError, match="'dlt' is not one of lo_ransac, gc_ransac, magsac, eq11"):
        estimate_from_matches(*found, CAMERA, 'dlt')
    with pytest.raises(AprlocError, match='scale_px is 0'):
        estimate_from_matches(*found, CAMERA, 'eq11', 0.0)
    with pytest.raises(AprlocError, match="'l1' is not one of huber, barron"):
        feature_metric(truth(1), found[0], torch.ones(1, 4), torch.ones(4, 6, 8), CAMERA, 'l1')


def test_one_hot_maps_make_eq_9_the_closed_form_of_eq_11():
    """From correspondence maps that are one-hot (section 7.1), through Eq. 7, against Eq. 11 as it is printed."""
    generator = np.random.default_rng(0)
    place = generator.integers(0, 20 * 15, 30)
    one_hot = torch.zeros(30, 20 * 15)
    one_hot[torch.arange(30), torch.from_numpy(place)] = 1
    projected = generator.random((30, 2)) * [19, 14]
    p = np.stack([place % 20, place // 20], 1)
    for sigma in (0.6, 5.0):
        kernel = np.exp(-((p - projected) ** 2).sum(1) / (2 * sigma ** 2)) / (2 * math.pi * sigma ** 2)
        found = pull(sparse_maps(one_hot.log(), 20, 5), projected, np.ones(30, bool), sigma)
        assert found.gain.sum() == pytest.approx((math.log(1 + 20 * 15) * kernel).sum(), rel=1e-4)


def repeated_place():
    """Points of two poses' view; two thirds are found a little more likely where the wrong one sees them (a facade)."""
    points = cloud()
    T_true = truth(1)
    T_wrong = T_true @ se3_exp(torch.tensor([0.3, 0.1, 0.0, 0.0, 0.06, 0.05], dtype=torch.float64))
    right, wrong = (Painter(points, T) for T in (T_true, T_wrong))
    both = right.seen & wrong.seen
    probability, elsewhere = (dense_maps(points.coarse[both], painter.features.coarse[0], torch.tensor(SCALE)).exp()
                              for painter in (right, wrong))
    twice = torch.rand(len(probability), generator=torch.Generator().manual_seed(3)) < 0.67
    mixed = torch.where(twice[:, None], 0.4 * probability + 0.6 * elsewhere, probability)
    return points.xyz[both], mixed.log(), T_true, T_wrong


def test_loss_maps_keep_what_the_best_cell_forgets():
    """Where the best cells agree on the wrong pose, all matches say so; the maps still know the other one (Fig. 1)."""
    xyz, log_maps, T_true, T_wrong = repeated_place()
    camera = Pinhole(COARSE.fx, COARSE.fy, COARSE.cx, COARSE.cy, COARSE.width, COARSE.height)
    maps = sparse_maps(log_maps, 40, 12)
    together = [np.arange(len(maps))]
    first = msac(maps, xyz.numpy(), camera, together, np.zeros((0, 4, 4)), 480, np.random.default_rng(0))
    assert error_px(invert(torch.from_numpy(first.T_cam_map)), T_true) < 8
    pixels = 8 * (torch.from_numpy(maps.best).double() + 0.5) - 0.5
    for method in METHODS:
        found = estimate_from_matches(xyz, pixels, torch.ones(len(xyz)), CAMERA, method, 8.0)
        assert error_px(found, T_wrong) < 8 and error_px(found, T_true) > 20


@pytest.mark.parametrize('loss', LOSSES)
def test_feature_metric_refinement_finds_where_smooth_features_agree(loss):
    """Features that are known smooth functions of the place on a plane; a fifth of the descriptors are of elsewhere."""
    T_true = se3_exp(torch.tensor([0.05, -0.04, 0.02, 0.01, -0.02, 0.03], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    frequency = 4 * torch.randn(2, 12, generator=generator, dtype=torch.float64)
    phase = 6 * torch.rand(12, generator=generator, dtype=torch.float64)

    def features(xy):
        return torch.nn.functional.normalize(torch.sin(xy @ frequency + phase), dim=-1).float()
    camera = Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
    rays = camera.directions().double() @ T_true[:3, :3].T
    depth = (2 - T_true[2, 3]) / rays[..., 2:]
    feature_map = features((T_true[:3, 3] + depth * rays)[..., :2]).permute(2, 0, 1)
    xyz = torch.cat([3 * torch.rand(300, 2, generator=generator, dtype=torch.float64) - 1.5, torch.full((300, 1), 2.0)], 1)
    descriptors = features(xyz[:, :2])
    descriptors[::5] = descriptors[1::5].clone()
    found = feature_metric(torch.eye(4, dtype=torch.float64), xyz, descriptors, feature_map, camera, loss)
    before_m, before_deg = pose_errors(torch.eye(4, dtype=torch.float64), T_true)
    error_m, error_deg = pose_errors(found.T_map_cam, T_true)
    assert error_m < 0.1 * before_m and error_deg < 0.1 * before_deg
    assert found.likeness.median() > 0.99 and (torch.linalg.eigvalsh(found.hessian) > 0).all() and 0 < found.iterations <= 30
    stays = feature_metric(T_true, xyz, descriptors, feature_map, camera, loss, allows=lambda done: False)
    assert torch.equal(stays.T_map_cam, T_true) and stays.iterations == 0


def test_local_maps_of_a_point_out_of_the_image_say_nothing():
    h = torch.nn.functional.normalize(torch.ones(1, 4), dim=1)
    maps = torch.nn.functional.normalize(torch.randn(4, 24, 32, generator=torch.Generator().manual_seed(0)), dim=0)
    centres = torch.tensor([[500.0, 500.0]])
    log_within = log_coarse_within(torch.zeros(1, 48) - math.log(48), 8, 32, centres, 3)
    local = local_maps(h, maps, torch.tensor(5.0), centres, 3, 9, log_within)
    assert not local.gains.any() and np.isfinite(local.cells).all() and not local.sureness.any()
