"""Errors that last: how long is measured, and a filter that is told so stays honest."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from aprloc_ros.training.calibration.correlation import correlation_time_s

PERIOD_S = 0.2


def lasting(count, tau_s, generator, size=6):
    """Errors [count, size] of unit variance, PERIOD_S apart, that correlate as exp(-dt / tau)."""
    rho, noise = math.exp(-PERIOD_S / tau_s), torch.randn(count, size, generator=generator, dtype=torch.float64)
    errors = [noise[0]]
    for row in noise[1:]:
        errors.append(rho * errors[-1] + math.sqrt(1 - rho ** 2) * row)
    return torch.stack(errors)


@pytest.mark.parametrize('tau_s', [0.25, 1.0])
def test_the_time_that_errors_last_is_found(tau_s):
    generator = torch.Generator().manual_seed(0)
    errors = torch.cat([lasting(200, tau_s, generator) for _ in range(3)])
    seconds = PERIOD_S * torch.arange(200, dtype=torch.float64).repeat(3)   # three drives on one clock
    found = correlation_time_s(errors, ['a'] * 200 + ['b'] * 200 + ['c'] * 200, seconds)
    assert found == pytest.approx(tau_s, rel=0.3)


def test_independent_errors_do_not_last_and_unknown_times_say_nothing():
    errors = torch.randn(300, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seconds = PERIOD_S * torch.arange(300, dtype=torch.float64)
    assert correlation_time_s(errors, [''] * 300, seconds) < PERIOD_S / 2   # a correlation of 0.14 at most
    assert correlation_time_s(errors, [''] * 300, torch.full((300,), math.nan)) == 0.0
    assert correlation_time_s(errors[:0], [], seconds[:0]) == 0.0


def filtered_nees(inflation, tau_s=0.25, steps=400, runs=20):
    """Mean NEES of robot_localization's EKF: a planar state x y yaw moved by odometry with noise, corrected by poses.

    Prediction P <- F P F^T + Q with F the Jacobian of the motion, correction by the Kalman gain in Joseph's form.
    """
    generator = np.random.default_rng(0)
    R, Q = np.diag([0.02, 0.03, 0.01]) ** 2, np.diag([0.004, 0.004, 0.002]) ** 2
    squared = []
    for run in range(runs):
        errors = lasting(steps, tau_s, torch.Generator().manual_seed(run), size=3).numpy() @ np.sqrt(R)
        truth, state, P = np.zeros(3), errors[0].copy(), R.copy()
        for k in range(1, steps):
            moved = np.array([0.2, 0.0, 0.1 * math.sin(k / 20)])
            truth = truth + turned(truth[2]) @ moved
            odometry = moved + generator.standard_normal(3) * np.sqrt(np.diag(Q))
            c, s = math.cos(state[2]), math.sin(state[2])
            F = np.eye(3)
            F[:2, 2] = [-s * odometry[0] - c * odometry[1], c * odometry[0] - s * odometry[1]]
            G = turned(state[2])
            state, P = state + G @ odometry, F @ P @ F.T + G @ Q @ G.T
            K = P @ np.linalg.inv(P + inflation * R)
            state = state + K @ (truth + errors[k] - state)
            P = (np.eye(3) - K) @ P @ (np.eye(3) - K).T + K @ (inflation * R) @ K.T
            if k > steps // 4 and k % 20 == 0:   # steps that are nearly independent
                difference = state - truth
                squared.append(difference @ np.linalg.solve(P, difference))
    return np.mean(squared), len(squared)


def turned(yaw):
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def test_a_filter_that_is_told_how_long_errors_last_stays_honest():
    """The mean of many such errors has (1 + rho) / (1 - rho) times the variance that independent ones would have."""
    rho = math.exp(-PERIOD_S / 0.25)
    nees, count = filtered_nees((1 + rho) / (1 - rho))
    low, high = stats.chi2(3 * count).ppf([0.005, 0.995]) / count
    assert low < nees < high
    untold, _ = filtered_nees(1.0)
    assert untold > 1.5 * high
