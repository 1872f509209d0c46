import math

import pytest
import torch

from aprloc_ros.covariance import check_covariance, floor_covariance, prior_covariance, residuals, to_base
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, se3_exp

CHI2_6_95 = 12.592  # 95th percentile of chi-square with 6 degrees of freedom (any table)


def correlated(generator):
    """A covariance as a camera's: decimetres and degrees, translation correlated with rotation."""
    A = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.3, 0.2, 0.5, 0.03, 0.05, 0.02], dtype=torch.float64)
    return scale[:, None] * (A @ A.T / 6 + 0.3 * torch.eye(6)) * scale


def samples(covariance, count, generator):
    return torch.randn(count, 6, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T


def mahalanobis(xi, covariance):
    return (xi * torch.linalg.solve(covariance, xi.T).T).sum(-1)


def test_residuals_undo_the_perturbation():
    generator = torch.Generator().manual_seed(1)
    xi = samples(correlated(generator), 50, generator)
    T_estimate = se3_exp(torch.randn(50, 6, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(residuals(T_estimate, T_estimate @ se3_exp(xi)), xi)


@pytest.mark.parametrize('count, lowest, highest', [(4, 0.90, 0.99), (10, 0.93, 0.99), (30, 0.93, 0.98),
                                                    (300, 0.94, 0.97)])
def test_the_next_residual_is_covered_as_promised(count, lowest, highest):
    """Few samples must not promise too much: 95 % of new residuals lie within the 95 % ellipsoid, and a little more for the floor."""
    generator = torch.Generator().manual_seed(count)
    inside = []
    for _ in range(200):
        truth = correlated(generator)
        estimate = prior_covariance(samples(truth, count, generator))
        inside.append((mahalanobis(samples(truth, 200, generator), estimate) < CHI2_6_95).double().mean())
    assert lowest < torch.stack(inside).mean() < highest


def test_many_samples_give_their_covariance_plus_the_floor():
    generator = torch.Generator().manual_seed(2)
    truth = correlated(generator)
    estimate = prior_covariance(samples(truth, 200_000, generator))
    scale = truth.diagonal().sqrt()
    torch.testing.assert_close((estimate - floor_covariance()) / scale / scale[:, None], truth / scale / scale[:, None],
                               atol=0.02, rtol=0)


def test_a_bias_and_an_outlier_count_in_full():
    bias = torch.zeros(1000, 6)
    bias[:, 2] = 0.4
    assert prior_covariance(bias)[2, 2].sqrt().item() == pytest.approx(0.4, rel=0.01)
    outliers = torch.zeros(1000, 6)
    outliers[:10, 0] = 5.0  # 1 % of the frames are 5 m off: a standard deviation of 0.5 m
    assert prior_covariance(outliers)[0, 0].sqrt().item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize('count', [1, 2, 1000])
def test_perfect_residuals_leave_the_floor(count):
    covariance = check_covariance(prior_covariance(torch.zeros(count, 6)))
    std = covariance.diagonal().sqrt()
    torch.testing.assert_close(std, torch.tensor([0.01] * 3 + [math.radians(0.2)] * 3, dtype=torch.float64))


@pytest.mark.parametrize('count', [1, 3, 7, 8, 50])
def test_the_covariance_is_always_valid_and_never_below_the_floor(count):
    generator = torch.Generator().manual_seed(count)
    covariance = check_covariance(prior_covariance(samples(correlated(generator), count, generator)))
    assert torch.linalg.eigvalsh(covariance - floor_covariance())[0] > 0


def test_to_base_is_the_spread_of_sampled_base_poses():
    generator = torch.Generator().manual_seed(3)
    covariance_cam = correlated(generator) / 100
    T_map_cam, T_cam_base = se3_exp(torch.randn(2, 6, generator=generator, dtype=torch.float64))
    T_map_base_true = T_map_cam @ se3_exp(samples(covariance_cam, 100_000, generator)) @ T_cam_base
    xi = residuals((T_map_cam @ T_cam_base).expand_as(T_map_base_true), T_map_base_true)
    covariance = to_base(covariance_cam, T_cam_base)
    scale = covariance.diagonal().sqrt()
    torch.testing.assert_close(xi.T @ xi / len(xi) / scale / scale[:, None], covariance / scale / scale[:, None],
                               atol=0.02, rtol=0)


def test_to_base_and_back_is_the_same():
    generator = torch.Generator().manual_seed(4)
    covariance = correlated(generator)
    T = se3_exp(torch.randn(6, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(to_base(to_base(covariance, T), invert(T)), covariance)
    check_covariance(to_base(prior_covariance(torch.zeros(5, 6)), T))


@pytest.mark.parametrize('xi', [torch.zeros(0, 6), torch.full((3, 6), torch.nan)])
def test_residuals_that_say_nothing_are_refused(xi):
    with pytest.raises(AprlocError, match='at least one held-out residual, all finite'):
        prior_covariance(xi)


def spoiled(row, column, value):
    covariance = 4 * floor_covariance()
    covariance[row, column] = value
    return covariance


@pytest.mark.parametrize('covariance, complaint', [
    (torch.eye(3), '6x6'),
    (spoiled(0, 0, torch.nan), 'finite'),
    (spoiled(0, 1, 1e-4), 'symmetric'),
    (spoiled(5, 5, -1e-3), 'positive definite'),
    (torch.zeros(6, 6), 'positive definite'),
    (spoiled(2, 2, 1e-5), 'at least 0.01 m and 0.2 degrees')])
def test_what_is_no_covariance_is_refused(covariance, complaint):
    with pytest.raises(AprlocError, match=complaint):
        check_covariance(covariance)
