"""Parts of the NRE estimator against closed forms, autograd, finite differences and OpenCV."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, SCALE, Painter, cloud, truth
from torch.nn import functional as F

from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.refinement.gnc import Pinhole, exp_se3, minimise, normal_equations, pull
from aprloc_ros.refinement.loss_maps import LossMaps, dense_maps, local_maps, log_coarse_within, sparse_maps
from aprloc_ros.refinement.points.minimal import msac
from aprloc_ros.refinement.points.retrieval import ViewIndex, retrieve_points, retrieve_views

NO_START = torch.zeros(0, 4, 4, dtype=torch.float64)
COARSE = Pinhole(*(getattr(CAMERA.resized(40, 30), key) for key in ('fx', 'fy', 'cx', 'cy')), 40, 30)


def test_the_exponential_is_geometrys():
    for scale in (1e-10, 1e-3, 1.0):
        xi = scale * np.random.default_rng(0).normal(size=6)
        np.testing.assert_allclose(exp_se3(xi), se3_exp(torch.from_numpy(xi)).numpy(), atol=1e-12)


def test_the_projections_jacobian_is_that_of_autograd_and_of_differences():
    xyz = cloud(20).xyz
    T_map_cam = truth(0)

    def cells(xi):
        cam = invert(T_map_cam @ se3_exp(xi))
        points = xyz @ cam[:3, :3].T + cam[:3, 3]
        return torch.stack([COARSE.fx * points[:, 0] / points[:, 2] + COARSE.cx,
                            COARSE.fy * points[:, 1] / points[:, 2] + COARSE.cy], 1)
    zero = torch.zeros(6, dtype=torch.float64)
    _, cam, _ = COARSE.project(xyz.numpy(), invert(T_map_cam).numpy())
    mine = COARSE.jacobian(cam)
    np.testing.assert_allclose(mine, torch.autograd.functional.jacobian(cells, zero).numpy(), rtol=1e-6, atol=1e-8)
    for axis in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[axis] = 1e-5
        np.testing.assert_allclose(mine[..., axis], ((cells(step) - cells(-step)) / 2e-5).numpy(), rtol=1e-5, atol=1e-6)


def test_projection_is_the_cameras():
    xyz = 3 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, inside = CAMERA.resized(40, 30).project(xyz)
    cells, _, seen = COARSE.project(xyz.numpy(), np.eye(4))
    assert np.array_equal(seen, inside.numpy()) and inside.any() and not inside.all()
    np.testing.assert_allclose(cells[seen], expected[inside].numpy())


def test_sparse_maps_are_the_truncated_dense_ones():
    """Eq. 7: with all cells kept, ln|Omega| - gain is min(ln|Omega|, -ln C) everywhere."""
    h, maps = F.normalize(torch.randn(5, 8), dim=1), F.normalize(torch.randn(8, 6, 7), dim=0)
    log_maps = dense_maps(h, maps, torch.tensor(20.0))
    sparse = sparse_maps(log_maps, 7, 42)
    bound = math.log(43)
    expected = torch.minimum(torch.full_like(log_maps, bound), -log_maps).numpy()
    for n in range(5):
        x, y = sparse.cells[n].astype(int).T
        np.testing.assert_allclose(bound - sparse.gains[n], expected[n, y * 7 + x], rtol=1e-5, atol=1e-5)
    assert np.array_equal(sparse.best[:, 1] * 7 + sparse.best[:, 0], log_maps.argmax(1).numpy())
    np.testing.assert_allclose(sparse.sureness, log_maps.exp().amax(1).numpy(), rtol=1e-5)
    few = sparse_maps(log_maps, 7, 3)
    np.testing.assert_allclose(np.sort(few.gains, 1), np.sort(sparse.gains, 1)[:, -3:])


def test_what_fine_descriptors_say_takes_the_place_of_the_likeliest_cell():
    log_maps = torch.randn(5, 12).log_softmax(1)
    maps = sparse_maps(log_maps, 4, 3)
    there = np.arange(10, dtype=np.float32).reshape(5, 2)
    moved = maps.with_best(there)
    assert np.array_equal(moved.best, there) and np.array_equal(moved.gains, maps.gains)
    others = maps.gains < maps.gains.max(1, keepdims=True)
    assert np.array_equal(moved.cells[others], maps.cells[others])
    few = maps.of(np.array([3, 1]), 2)
    assert np.array_equal(few.cells, maps.cells[[3, 1], :2]) and np.array_equal(few.best, maps.best[[3, 1]])


def test_local_maps_sum_to_the_mean_coarse_probability():
    """Appendix D.1, steps 2-4, for windows away from the border and ones that are cut by it."""
    torch.manual_seed(0)
    h, fine = F.normalize(torch.randn(4, 6), dim=1), F.normalize(torch.randn(6, 24, 32), dim=0)
    coarse = torch.log_softmax(torch.randn(4, 6 * 8), 1)
    centres = torch.tensor([[16.0, 12.0], [15.3, 9.8], [0.0, 0.0], [31.0, 23.0]])
    radius = 4
    local = local_maps(h, fine, torch.tensor(5.0), centres, radius, 81, log_coarse_within(coarse, 8, 32, centres, radius))
    bound = math.log(1 + 24 * 32)
    for n, (x, y) in enumerate(centres.round().long().tolist()):
        xs, ys = (range(max(0, c - radius), min(limit, c + radius + 1)) for c, limit in ((x, 32), (y, 24)))
        logits = torch.tensor([[5.0 * (h[n] @ fine[:, j, i]) for i in xs] for j in ys])
        cx, cy = x // 4, y // 4
        touched = [coarse[n, j * 8 + i].exp() for j in range(cy - 1, cy + 2) for i in range(cx - 1, cx + 2)
                   if 0 <= i < 8 and 0 <= j < 6]
        probability = logits.flatten().softmax(0).view_as(logits) * sum(touched) / len(touched)
        for (i, j), gain in zip(local.cells[n].astype(int).tolist(), local.gains[n]):
            if i in xs and j in ys:
                expected = max(0.0, bound + math.log(probability[j - ys[0], i - xs[0]]))
                assert gain == pytest.approx(expected, abs=1e-4)
            else:
                assert gain == 0


def random_maps(count=50, top=6, seed=0):
    generator = np.random.default_rng(seed)
    return LossMaps((generator.random((count, top, 2)) * [39, 29]).astype(np.float32),
                    generator.random((count, top)).astype(np.float32), np.ones(count, np.float32))


def smoothed_cost(maps, cells, sigma):
    """Eq. 9, written out."""
    total = torch.zeros((), dtype=torch.float64)
    for n in range(len(maps)):
        for q, gain in zip(torch.from_numpy(maps.cells[n]).double(), maps.gains[n].tolist()):
            total = total - gain * torch.exp(-(q - cells[n]).square().sum() / (2 * sigma ** 2)) / (2 * math.pi * sigma ** 2)
    return total


def test_the_pull_is_the_gradient_of_the_smoothed_cost():
    maps = random_maps()
    cells = torch.rand(50, 2, dtype=torch.float64) * torch.tensor([39.0, 29.0])
    for sigma in (0.7, 3.0):
        found = pull(maps, cells.numpy(), np.ones(50, bool), sigma)
        free = cells.clone().requires_grad_()
        cost = smoothed_cost(maps, free, sigma)
        cost.backward()
        assert -found.gain.sum() == pytest.approx(cost.item(), rel=1e-4)
        np.testing.assert_allclose(-found.gain[:, None] * found.offset / sigma ** 2, free.grad.numpy(), rtol=1e-2, atol=1e-5)


def test_the_stiffness_is_the_second_derivative_of_the_smoothed_cost_where_that_is_positive():
    maps = random_maps(top=3)
    maps = LossMaps(maps.cells[:, :1] + 0.5 * (maps.cells - maps.cells[:, :1]) / 20, maps.gains, maps.sureness)
    cells = torch.from_numpy(maps.cells.mean(1)).double()
    found = pull(maps, cells.numpy(), np.ones(50, bool), 1.5)
    hessian = torch.autograd.functional.hessian(lambda c: smoothed_cost(maps, c, 1.5), cells)
    for n in range(50):
        expected = hessian[n, :, n].numpy() * 1.5 ** 2 / found.gain[n]
        assert np.linalg.eigvalsh(expected)[0] > 0.1
        np.testing.assert_allclose(found.stiffness[n], expected, rtol=1e-3, atol=1e-4)
    elsewhere = pull(maps, cells.numpy() + 4.0, np.ones(50, bool), 1.5)
    assert (np.linalg.eigvalsh(elsewhere.stiffness) > 0).all()


def test_one_cell_each_is_the_reprojection_error_of_eq_11():
    """With one-hot maps Eq. 9 is Eq. 11, and a large sigma makes it least squares, whose minimum OpenCV knows."""
    xyz = cloud(60).xyz.numpy()
    T_cam_map = invert(truth(4)).numpy()
    generator = np.random.default_rng(1)
    cells, _, inside = COARSE.project(xyz, T_cam_map)
    xyz, cells = xyz[inside], cells[inside] + 0.3 * generator.normal(size=(inside.sum(), 2))
    maps = LossMaps(cells[:, None].astype(np.float32), np.ones((len(cells), 1), np.float32), np.ones(len(cells), np.float32))
    level = minimise(maps, xyz, COARSE, T_cam_map, 60.0, 100)
    K = np.array([[COARSE.fx, 0, COARSE.cx], [0, COARSE.fy, COARSE.cy], [0, 0, 1]])
    rotation, translation = cv2.Rodrigues(T_cam_map[:3, :3])[0], T_cam_map[:3, 3:].copy()
    rotation, translation = cv2.solvePnPRefineLM(xyz, cells, K, None, rotation, translation)
    np.testing.assert_allclose(level.T_cam_map[:3, :3], cv2.Rodrigues(rotation)[0], atol=2e-4)
    np.testing.assert_allclose(level.T_cam_map[:3, 3], translation[:, 0], atol=2e-3)


def test_normal_equations_are_written_out():
    generator = np.random.default_rng(0)
    J, r, w = generator.normal(size=(7, 2, 6)), generator.normal(size=(7, 2)), generator.random(7)
    K = generator.normal(size=(7, 2, 2))
    K = K + K.transpose(0, 2, 1)
    H, g = normal_equations(J, r, w, K)
    np.testing.assert_allclose(H, sum(w[n] * J[n].T @ K[n] @ J[n] for n in range(7)))
    np.testing.assert_allclose(g, sum(w[n] * J[n].T @ r[n] for n in range(7)))


@pytest.mark.parametrize('outliers', [0.0, 0.5, 0.7])
def test_sample_consensus_finds_the_pose_among_outliers(outliers):
    points, T = cloud(), truth(6)
    painter = Painter(points, T, outliers=outliers, noise=0.02)
    log_maps = dense_maps(points.coarse, painter.features.coarse[0], torch.tensor(SCALE))
    maps = sparse_maps(log_maps, 40, 8)
    found = msac(maps, points.xyz.numpy(), COARSE, [np.arange(len(maps))], np.zeros((0, 4, 4)), 2000, np.random.default_rng(0))
    cells, _, inside = COARSE.project(points.xyz.numpy(), found.T_cam_map)
    true_cells, _, _ = COARSE.project(points.xyz.numpy(), invert(T).numpy())
    assert np.median(np.hypot(*(cells - true_cells)[inside].T)) < 1.0
    assert found.score > found.runner_up and found.support == pytest.approx((1 - outliers) * painter.seen.float().mean(), abs=0.25)


def test_sample_consensus_ends_when_time_is_up():
    points, T = cloud(), truth(6)
    painter = Painter(points, T, outliers=0.95, noise=0.02)
    maps = sparse_maps(dense_maps(points.coarse, painter.features.coarse[0], torch.tensor(SCALE)), 40, 8)
    asked = []
    found = msac(maps, points.xyz.numpy(), COARSE, [np.arange(len(maps))], np.zeros((0, 4, 4)), 100_000,
                 np.random.default_rng(0), lambda: bool(asked.append(None)))
    assert found is not None and len(asked) == 1


def test_fewer_than_four_maps_give_no_hypothesis():
    maps = random_maps(3)
    assert msac(maps, np.ones((3, 3)), COARSE, [np.arange(3)], np.zeros((0, 4, 4)), 10, np.random.default_rng(0)) is None


def test_similar_and_near_views_are_retrieved():
    points = cloud(40, views=8)
    likeness = torch.tensor([0.1, 0.5, 0.2, 0.3, 0.0, 0.9, 0.4, 0.6])
    assert retrieve_views(points, likeness, NO_START, 1, 2).tolist() == [5]
    assert retrieve_views(points, likeness, points.view_poses[[2]], 1, 1).tolist() == [2, 5]
    assert len(retrieve_views(points, likeness, NO_START, 100, 0)) == 8


def test_a_view_is_like_an_image_in_which_its_points_are_found_even_if_half_of_it_is_covered():
    """Each of four views saw a quarter of the points; the image shows two of them, and nothing of the others."""
    points = cloud(400, views=4)
    points = replace(points, view_offsets=torch.arange(5) * 100, view_points=torch.arange(400))
    coarse = F.normalize(torch.randn(64, 30, 40, generator=torch.Generator().manual_seed(0)), dim=0)
    coarse[:, 3:8, :40] = points.coarse[100:300].T.reshape(64, 5, 40)
    index = ViewIndex(points, torch.device('cpu'))
    seen = index.likeness(coarse)
    torch.testing.assert_close(seen[1:3], torch.ones(2))
    assert seen[[0, 3]].max() < 0.7
    coarse[:, :, 20:] = coarse[:, :1, :1]
    covered = index.likeness(coarse)
    assert covered[1:3].min() > covered[[0, 3]].max() + 0.1


def test_views_without_points_are_like_nothing():
    points = cloud(8, views=2)
    points = replace(points, view_offsets=torch.tensor([0, 8, 8]), view_points=torch.arange(8))
    assert ViewIndex(points, torch.device('cpu')).likeness(F.normalize(torch.ones(64, 2, 3), dim=0))[1] == -1


def test_points_that_most_views_saw_come_first():
    points = cloud(10, views=3)
    points = type(points)(points.xyz, points.coarse, points.fine, points.view_poses,
                          torch.tensor([0, 4, 8, 10]), torch.tensor([0, 1, 2, 3, 2, 3, 4, 5, 3, 9]))
    assert retrieve_points(points, torch.tensor([0, 1, 2]), 100).tolist() == [0, 1, 2, 3, 4, 5, 9]
    assert retrieve_points(points, torch.tensor([0, 1, 2]), 2).tolist() == [2, 3]
    assert retrieve_points(points, torch.tensor([], dtype=torch.int64), 5).tolist() == []
