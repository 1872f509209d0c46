"""How a belief spreads as the robot moves: against sampled robots and closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2

from aprloc_ros.geometry import invert, se3_exp, se3_log
from aprloc_ros.tracking.motion import Belief, MotionOptions, squared_distance

QUIET = MotionOptions((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 1.0, 1.0)
START = se3_exp(torch.tensor([4.0, -2.0, 1.0, 0.3, -0.2, 2.0], dtype=torch.float64))
STEP = se3_exp(torch.tensor([1.5, 0.2, 0.0, 0.0, 0.1, 0.7], dtype=torch.float64))


def random_covariance(seed, scale=1e-2):
    factor = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return scale ** 2 * factor @ factor.T


def sample(covariance, count, seed):
    noise = torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return noise @ torch.linalg.cholesky(covariance).T


def test_odometry_carries_pose_and_covariance_as_it_carries_sampled_robots():
    covariance, T_odom = random_covariance(0), se3_exp(torch.tensor([9.0, 8.0, 0, 0, 0, 1.0], dtype=torch.float64))
    belief = Belief(0.0, START, covariance, T_odom).moved(1.0, T_odom @ STEP)
    torch.testing.assert_close(belief.T_map_base, START @ STEP)
    robots = START @ se3_exp(sample(covariance, 50_000, 1)) @ STEP
    measured = torch.cov(se3_log(invert(belief.T_map_base) @ robots).T)
    expected = belief.covariance(QUIET)
    assert (measured - expected).abs().max() < 0.03 * expected.abs().max()


def test_odometrys_noise_grows_with_the_way_the_turns_and_the_time():
    options = replace(QUIET, odometry_noise_per_m=(0.1, 0.01), odometry_noise_per_rad=(0.2, 0.02),
                      odometry_noise_per_s=(0.3, 0.03))
    T_odom, belief = torch.eye(4, dtype=torch.float64), Belief(0.0, START, torch.zeros(6, 6).double(), torch.eye(4).double())
    there = se3_exp(torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64))
    turn = se3_exp(torch.tensor([0, 0, 0, 0, 0, 0.5], dtype=torch.float64))
    for time_s, step in enumerate((there, invert(there), turn, there), 1):   # 3 m, half a radian, 4 s
        T_odom = T_odom @ step
        belief = belief.moved(float(time_s), T_odom)
    variance = torch.diagonal(belief.covariance(options))
    assert variance[0] == pytest.approx(0.3 ** 2 + 0.1 ** 2 + 1.2 ** 2)
    assert variance[5] == pytest.approx(0.03 ** 2 + 0.01 ** 2 + 0.12 ** 2)
    assert belief.unseen_s == 4.0 and belief.blind_s == 0.0


def test_without_odometry_it_stays_and_spreads_as_far_as_the_robot_can_go():
    options = replace(QUIET, max_speed_m_s=2.0, max_turn_rad_s=0.6)
    belief = Belief(10.0, START, torch.zeros(6, 6).double(), None).moved(10.5, None).moved(11.0, None)
    torch.testing.assert_close(belief.T_map_base, START)
    std = torch.diagonal(belief.covariance(options)).sqrt()
    torch.testing.assert_close(std, torch.tensor([2.0] * 3 + [0.6] * 3, dtype=torch.float64) / math.sqrt(3))


def test_odometry_that_fails_for_a_while_still_accounts_for_the_whole_way():
    T_odom = torch.eye(4, dtype=torch.float64)
    belief = Belief(0.0, START, random_covariance(0), T_odom).moved(0.5, None).moved(1.0, T_odom @ STEP)
    torch.testing.assert_close(belief.T_map_base, START @ STEP)
    assert belief.blind_s == 0.5
    late = Belief(0.0, START, random_covariance(0), None).moved(1.0, T_odom).moved(2.0, T_odom @ STEP)
    torch.testing.assert_close(late.T_map_base, START @ STEP)
    assert (late.blind_s, late.odometry_s) == (1.0, 1.0)


def test_the_distance_of_two_true_beliefs_is_chi_square():
    first, second, count = random_covariance(2), random_covariance(3), 2000
    a, b = START @ se3_exp(sample(first, count, 4)), START @ se3_exp(sample(second, count, 5))
    distances = torch.tensor([squared_distance(Belief(0.0, a[i], first, None), Belief(0.0, b[i], second, None), QUIET)
                              for i in range(count)])
    for probability in (0.5, 0.9, 0.99):
        share = (distances <= chi2.ppf(probability, 6)).double().mean().item()
        assert share == pytest.approx(probability, abs=3 * math.sqrt(probability * (1 - probability) / count))
