"""Scores against numpy, scipy and evo, and a localizer with known answers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import chi2, kstest

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.scoring.evaluation import (
    agreement,
    evaluate_map,
    make_record,
    measure_records,
    nearest_training_poses,
    residuals_and_covariances,
    score_poses,
    score_with_baselines,
    scores_table,
)
from aprloc_ros.scoring.uncertainty import squared_mahalanobis


def random_poses(count, seed, spread_m=3.0):
    rng = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix() if count else T[:, :3, :3]
    T[:, :3, 3] = rng.normal(scale=spread_m, size=(count, 3))
    return T


def test_scores_equal_numpy_and_scipy():
    rng = np.random.default_rng(0)
    truth = random_poses(200, 1)
    estimate = truth.copy()
    shift = rng.normal(scale=0.1, size=(200, 3))
    turn = Rotation.from_rotvec(rng.normal(scale=0.03, size=(200, 3)))
    estimate[:, :3, 3] += shift
    estimate[:, :3, :3] = (Rotation.from_matrix(truth[:, :3, :3]) * turn).as_matrix()
    scores = score_poses(torch.from_numpy(estimate), torch.from_numpy(truth))
    metres, degrees = np.linalg.norm(shift, axis=1), np.degrees(turn.magnitude())
    assert scores.count == 200
    for name, errors in (('m', metres), ('deg', degrees)):
        for statistic, truth_value in (('median', np.median(errors)), ('mean', errors.mean()),
                                       ('p95', np.percentile(errors, 95)), ('max', errors.max())):
            assert getattr(scores, f'{statistic}_{name}') == pytest.approx(truth_value, rel=1e-9)
    assert scores.recall['5cm5deg'] == np.mean((metres <= 0.05) & (degrees <= 5))
    assert scores.recall['25cm2deg'] == np.mean((metres <= 0.25) & (degrees <= 2))
    assert 0 < scores.recall['5cm5deg'] < scores.recall['25cm2deg'] < 1
    assert scores.to_dict()['recall'] == scores.recall
    table = scores_table({'ours': scores}).splitlines()
    assert 'median' in table[0] and f'{np.median(metres):.3f} m' in table[1]


def test_nearest_training_pose_is_brute_force_nearest():
    train, test = random_poses(40, 2), random_poses(15, 3)
    nearest = nearest_training_poses(torch.from_numpy(train), torch.from_numpy(test)).numpy()
    for found, truth in zip(nearest, test):
        distances = np.linalg.norm(train[:, :3, 3] - truth[:3, 3], axis=1)
        np.testing.assert_array_equal(found, train[distances.argmin()])


@pytest.mark.parametrize('estimate, truth, says', [
    (np.zeros((0, 4, 4)), np.zeros((0, 4, 4)), 'no pose'),
    (random_poses(3, 0), random_poses(2, 0), 'N poses'),
    (np.full((2, 4, 4), np.nan), random_poses(2, 0), 'estimates: pose 0 of 2'),
    (random_poses(2, 0), np.full((2, 4, 4), np.inf), 'truth: pose 0 of 2')])
def test_what_cannot_be_scored_says_so(estimate, truth, says):
    with pytest.raises(AprlocError, match=says):
        score_poses(torch.from_numpy(estimate), torch.from_numpy(truth))


def test_residuals_of_sampled_poses_follow_chi_square():
    rng = np.random.default_rng(4)
    factor = rng.normal(size=(6, 6)) * 0.02
    covariance = torch.from_numpy(factor @ factor.T + 1e-6 * np.eye(6))
    samples = torch.from_numpy(rng.multivariate_normal(np.zeros(6), covariance.numpy(), size=500))
    estimates = torch.from_numpy(random_poses(500, 5))
    records = [make_record('', 0.0, T @ se3_exp(xi), T, 0.0, 'prior', covariance) for T, xi in zip(estimates, samples)]
    records.append(make_record('', 0.0, estimates[0], estimates[0], 0.0, 'prior'))   # without a covariance: left out
    squared = squared_mahalanobis(*residuals_and_covariances(records))
    assert len(squared) == 500 and kstest(squared.numpy(), chi2(6).cdf).pvalue > 0.01


def test_errors_equal_those_of_evo():
    metrics = pytest.importorskip('evo.core.metrics')
    from evo.core.trajectory import PosePath3D

    truth, estimate = random_poses(30, 7), random_poses(30, 8)
    scores = score_poses(torch.from_numpy(estimate), torch.from_numpy(truth))
    for relation, unit in ((metrics.PoseRelation.translation_part, 'm'), (metrics.PoseRelation.rotation_angle_deg, 'deg')):
        error = metrics.APE(relation)
        error.process_data((PosePath3D(poses_se3=list(truth)), PosePath3D(poses_se3=list(estimate))))
        for statistic in ('median', 'mean', 'max'):
            expected = error.get_statistic(metrics.StatisticsType[statistic])
            assert getattr(scores, f'{statistic}_{unit}') == pytest.approx(expected, rel=1e-9)


def test_two_runs_are_compared_on_the_frames_that_both_answered():
    T = torch.from_numpy(random_poses(6, 9))
    turn = se3_exp(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, np.radians(3)], dtype=torch.float64))
    first = [make_record('', i / 10, T[i], T[i], 0.0, 'prior') for i in (0, 1, 2, 4)]
    second = [make_record('', i / 10, T[0], T[i] @ turn if i == 2 else T[i], 0.0, 'prior') for i in (1, 2, 3)]
    found = agreement(first, second)
    assert found.frames == 2 and found.same == 1 and found.max_m < 1e-12 and found.max_deg == pytest.approx(3)
    with pytest.raises(AprlocError, match='no frame in common, of 1 and 1'):
        agreement(first[:1], second[:1])


class ShiftedLocalizer:
    """Answers with the truth moved along x."""

    def __init__(self, frames, shift_m):
        self.truths, self.shift_m = iter([frame.T_map_cam for frame in frames]), shift_m

    def localize(self, image, camera):
        assert image.shape == (camera.height, camera.width, 3)
        T = next(self.truths).clone()
        T[0, 3] += self.shift_m
        return SimpleNamespace(T_map_cam=T, covariance=torch.eye(6, dtype=torch.float64), status='prior', score=0.9, reason='', text='')


def test_evaluate_map_records_every_frame():
    camera = Camera(8, 6, 5.0, 5.0, 3.5, 2.5)
    frames = [SimpleNamespace(name=f'{i}.png', stamp_s=None, T_map_cam=torch.from_numpy(T), camera=camera,
                              read_image=lambda: np.zeros((6, 8, 3), np.uint8))
              for i, T in enumerate(random_poses(5, 6))]
    seen = []
    records = evaluate_map(ShiftedLocalizer(frames, 0.25), frames, lambda index, record: seen.append((index, record)))
    assert [record.name for record in records] == [f'{i}.png' for i in range(5)]
    assert seen == list(enumerate(records))
    assert all(record.error_m == pytest.approx(0.25) and record.error_deg < 1e-5 for record in records)
    assert all(record.latency_ms > 0 for record in records)
    scores = score_with_baselines(records, torch.stack([frame.T_map_cam for frame in frames]), 'map')
    assert list(scores) == ['map', 'nearest training pose', 'mean training pose']
    assert scores['nearest training pose'].max_m == 0


def test_what_was_claimed_is_measured_on_the_reported_frames_and_rejections_count_as_failures():
    """Residuals drawn from their own covariance; twenty are rejected and one is far off, all with low scores."""
    generator = torch.Generator().manual_seed(0)
    covariance = torch.diag(torch.tensor([1e-4, 2e-4, 3e-4, 1e-6, 2e-6, 3e-6], dtype=torch.float64))
    xi = torch.randn(200, 6, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    T = torch.from_numpy(random_poses(200, 8))
    records = [make_record('', i, T[i] @ se3_exp(xi[i]), T[i], 0.0, 'refined', covariance, 0.5 + i / 1000) for i in range(200)]
    records += [make_record('', 300 + i, T[i] @ se3_exp(torch.full((6,), 5.0).double()), T[i], 0.0, 'rejected', covariance, 0.1)
                for i in range(20)]
    records += [make_record('', 400, T[0] @ se3_exp(torch.tensor([1.0, 0, 0, 0, 0, 0]).double()), T[0], 0.0, 'prior_kept',
                            100 * covariance, 0.2)]
    found = measure_records(records)
    assert found.covariance.count == 201
    assert 5 < measure_records(records[:200]).covariance.anees < 7
    assert found.score.failures == 21 and found.score.auroc == 1.0
    with pytest.raises(AprlocError, match='all of 20 frames were rejected'):
        measure_records(records[200:220])
