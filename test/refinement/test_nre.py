"""The NRE estimator on scenes whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, Painter, cloud, query, truth

from aprloc_ros.geometry import pose_errors
from aprloc_ros.points import MapPoints
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.refinement.points.nre_settings import QUICK, NreSettings
from aprloc_ros.refinement.refined import Budget

NO_START = torch.zeros(0, 4, 4, dtype=torch.float64)
PLENTY = Budget(200, 60_000.0)


def refine(painter, points, starts=NO_START, budget=PLENTY, settings=None):
    return NreRefiner(painter, points, settings or NreSettings()).refine(query(), starts, budget)


def reprojection_px(T, T_true, points):
    def seen(T_map_cam):
        cam = (points.xyz - T_map_cam[:3, 3]) @ T_map_cam[:3, :3]
        return CAMERA.project(cam)[0]
    return (seen(T) - seen(T_true)).norm(dim=1).median().item()


@pytest.mark.parametrize('seed', range(4))
def test_a_known_pose_is_found_from_nothing(seed):
    points, T = cloud(), truth(seed)
    found = refine(Painter(points, T, noise=0.02), points)
    assert found.status == 'converged' and found.cost_after < found.cost_before
    assert reprojection_px(found.T_map_cam, T, points) < 0.1
    assert found.signals['inlier_share'] > 0.8 and 0 < found.signals['spread'] <= 1
    assert (torch.linalg.eigvalsh(found.hessian) > 0).all()


def test_most_points_may_be_elsewhere():
    points, T = cloud(), truth(3)
    found = refine(Painter(points, T, outliers=0.6, noise=0.02), points)
    assert reprojection_px(found.T_map_cam, T, points) < 0.3
    clean = refine(Painter(points, T, noise=0.02), points)
    assert found.signals['inlier_share'] < clean.signals['inlier_share'] - 0.2


@pytest.mark.parametrize('seed', range(1, 5))
def test_a_place_that_is_mostly_far_away_is_found_to_a_centimetre(seed):
    """Nine of ten points are 50 to 110 m away and tell no metre; six of ten are painted elsewhere. Without the followed
    hypotheses on sharp matches these four were 0.08 to 2.9 m off.
    """
    points, T = cloud(), truth(seed)
    far = torch.rand(len(points), generator=torch.Generator().manual_seed(1)) > 0.1
    points = replace(points, xyz=torch.where(far[:, None], 20 * points.xyz, points.xyz))
    found = refine(Painter(points, T, outliers=0.6, noise=0.02), points)
    assert pose_errors(found.T_map_cam, T)[0] < 0.02


def test_points_that_occur_twice_still_vote_for_the_right_place():
    points, T = cloud(), truth(5)
    found = refine(Painter(points, T, copies=0.7, noise=0.02), points)
    assert reprojection_px(found.T_map_cam, T, points) < 0.2


def test_a_start_is_one_hypothesis_among_others():
    """A wrong start does no harm; a right one is enough where no triple may be drawn that helps."""
    points, T = cloud(), truth(1)
    painter = Painter(points, T, noise=0.02)
    wrong = refine(painter, points, truth(99)[None])
    assert reprojection_px(wrong.T_map_cam, T, points) < 0.1
    right = refine(painter, points, T[None], settings=NreSettings(triples=1))
    assert reprojection_px(right.T_map_cam, T, points) < 0.1
    assert right.cost_before == pytest.approx(right.cost_after, rel=0.1) and wrong.cost_before > 1.2 * wrong.cost_after


def test_equal_queries_have_equal_answers():
    points, T = cloud(), truth(1)
    first, second = (refine(Painter(points, T, outliers=0.3, noise=0.05), points) for _ in range(2))
    assert torch.equal(first.T_map_cam, second.T_map_cam) and first.signals == second.signals


def test_steps_tell_the_way_and_end_at_the_answer():
    points, T = cloud(), truth(2)
    found = refine(Painter(points, T, noise=0.02), points)
    assert len(found.steps) >= 4 and found.iterations > 0
    torch.testing.assert_close(found.steps[-1].T_map_cam, found.T_map_cam)
    error_m = [pose_errors(step.T_map_cam, T)[0].item() for step in found.steps]
    assert error_m[-1] < error_m[0] and sorted(s.elapsed_ms for s in found.steps) == [s.elapsed_ms for s in found.steps]


def test_a_budget_of_nothing_returns_the_start():
    points, T = cloud(), truth(2)
    start = truth(40)
    for budget in (Budget(0, 100.0), Budget(10, 0.0)):
        found = refine(Painter(points, T), points, start[None], budget)
        assert found.cut_short and torch.equal(found.T_map_cam, start)


def test_few_iterations_are_kept_to():
    points, T = cloud(), truth(2)
    found = refine(Painter(points, T, noise=0.02), points, budget=Budget(3, 60_000.0))
    assert found.iterations <= 3 and found.status == 'out of iterations'


def test_whatever_the_deadline_it_is_out_of_time_or_the_answer_of_no_deadline(look_ms):
    points, T = cloud(), truth(2)
    painter = Painter(points, T, outliers=0.3, noise=0.02)
    expected = refine(painter, points, budget=Budget())
    found = [refine(painter, points, budget=Budget(50, look_ms * (looks + 0.5))) for looks in range(40)]
    statuses = [result.status for result in found]
    finished = statuses.index('converged')
    assert finished > 5 and set(statuses[:finished]) == {'out of time'} and set(statuses[finished:]) == {'converged'}
    assert all(torch.equal(result.T_map_cam, expected.T_map_cam) for result in found[finished:])


def test_the_quick_one_finds_it_too():
    points, T = cloud(2000), truth(3)
    found = refine(Painter(points, T, noise=0.02, camera=CAMERA.resized(224, 160)), points, settings=QUICK)
    assert found.status == 'converged' and reprojection_px(found.T_map_cam, T, points) < 0.5


def scattered(points, xyz):
    return MapPoints(xyz, points.coarse, points.fine, points.view_poses, points.view_offsets, points.view_points)


@pytest.mark.parametrize('what', ['nan', 'one colour', 'no points', 'three points', 'one place', 'noise'])
def test_nothing_to_go_by_is_never_a_confident_pose(what):
    points, T = cloud(), truth(2)
    painter = Painter(points, T, noise=0.02)
    if what == 'nan':
        painter.features.coarse[:] = float('nan')
    if what == 'one colour':
        for maps in (painter.features.coarse, painter.features.fine):
            maps[:] = maps[:, :, :1, :1]
    if what == 'noise':
        generator = torch.Generator().manual_seed(0)
        for maps in (painter.features.coarse, painter.features.fine):
            maps[:] = torch.nn.functional.normalize(torch.randn(maps.shape, generator=generator), dim=1)
    if what == 'no points':
        points = MapPoints(points.xyz, points.coarse, points.fine, points.view_poses,
                           torch.zeros(5, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    if what == 'three points':
        points = MapPoints(points.xyz, points.coarse, points.fine, points.view_poses,
                           torch.tensor([0, 3, 3, 3, 3]), torch.arange(3))
    if what == 'one place':
        points = scattered(points, torch.zeros_like(points.xyz) + torch.tensor([0.0, 0.0, 4.0]))
    start = truth(40)
    found = refine(painter, points, start[None])
    assert torch.isfinite(found.T_map_cam).all() and torch.isfinite(found.hessian).all()
    if found.failed:
        assert torch.equal(found.T_map_cam, start) and not found.hessian.any()
    else:
        assert found.signals['inlier_share'] < 0.5


def test_points_behind_the_camera_are_not_matched():
    points, T = cloud(), truth(2)
    painter = Painter(points, T, noise=0.02)
    found = refine(painter, scattered(points, points.xyz * torch.tensor([1.0, 1.0, -1.0])), truth(2)[None])
    assert found.failed or found.signals['inlier_share'] < 0.6


def test_signals_are_shares():
    points, T = cloud(), truth(2)
    for outliers in (0.0, 0.5, 0.9):
        found = refine(Painter(points, T, outliers=outliers, noise=0.05), points)
        assert all(0 <= value <= 1 and np.isfinite(value) for value in found.signals.values())
