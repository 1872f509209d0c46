import math

import pytest
import torch

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.covariance import (
    LOWEST_DEG,
    LOWEST_M,
    HessianCovariance,
    Tier,
    check_covariance,
    floor_covariance,
    fuse,
    prior_covariance,
    residuals,
    to_base,
)
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


def test_what_is_no_surer_than_another_claims_as_much_error_as_either():
    random = torch.Generator().manual_seed(3)

    def draw(low, high):
        return (low + (high - low) * torch.rand((), generator=random, dtype=torch.float64)).item()

    def some():
        bounds = sorted(1 + draw(0, 4) for _ in range(3))
        return HessianCovariance(draw(0.5, 3), draw(0.5, 3), draw(1, 2), draw(0, 2), draw(1e-3, 1e-2), draw(0.01, 0.1), 50, 0, True,
                                 draw(0, 1), tuple(Tier(bound, draw(1, 2)) for bound in bounds), draw(0, 1))
    for _ in range(40):
        found, known = some(), some()
        both = found.no_surer_than(known)
        hessian = torch.diag(torch.tensor([draw(1e2, 1e5)] * 3 + [draw(1e3, 1e6)] * 3, dtype=torch.float64))
        query = hessian, floor_covariance(0.3, 3.0), draw(0, 1), draw(0, 2)
        for one in (found, known):
            assert torch.linalg.eigvalsh(both.covariance(*query) - one.covariance(*query)).min() > -1e-12
        assert from_mapping(HessianCovariance, to_mapping(both), 'covariance') == both


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
    (spoiled(2, 2, 1e-9), 'at least 0.0001 m and 0.002 degrees')])
def test_what_is_no_covariance_is_refused(covariance, complaint):
    with pytest.raises(AprlocError, match=complaint):
        check_covariance(covariance)


def hessian_covariance(translation=3.0, rotation=2.0, prior=1.0, inflation=0.0, floor_m=0.002, floor_deg=0.05):
    return HessianCovariance(translation, rotation, prior, inflation, floor_m, floor_deg, 50, 0, True)


def test_a_hessian_becomes_the_covariance_of_the_formula():
    generator = torch.Generator().manual_seed(5)
    H, P = torch.linalg.inv(correlated(generator) / 1e4), correlated(generator)
    K_inverse = torch.diag(torch.tensor([1 / 3] * 3 + [1 / 2] * 3, dtype=torch.float64))
    expected = torch.linalg.inv(K_inverse @ H @ K_inverse + torch.linalg.inv(P)) + floor_covariance(0.002, 0.05)
    torch.testing.assert_close(hessian_covariance().covariance(H, P), expected)
    torch.testing.assert_close(hessian_covariance(prior=2.0).covariance(H, P / 4), expected)


def test_a_hessian_of_samples_gives_the_spread_of_the_least_squares_estimate():
    """Linear residuals J xi + noise: the estimate spreads as (J^T J)^-1, by the Gauss-Markov theorem."""
    generator = torch.Generator().manual_seed(6)
    J = torch.randn(40, 6, generator=generator, dtype=torch.float64) * torch.tensor([9, 9, 9, 40, 40, 40.0])
    noise = torch.randn(20_000, 40, generator=generator, dtype=torch.float64)
    xi = torch.linalg.lstsq(J, noise.T).solution.T
    covariance = hessian_covariance(1.0, 1.0, 1.0, 0.0, LOWEST_M, LOWEST_DEG).covariance(J.T @ J, 1e6 * torch.eye(6).double())
    assert mahalanobis(xi, covariance).mean().item() == pytest.approx(6, rel=0.03)


def test_what_the_hessian_does_not_see_stays_as_uncertain_as_the_prior():
    generator = torch.Generator().manual_seed(7)
    P = correlated(generator)
    blind = torch.nn.functional.normalize(torch.randn(6, generator=generator, dtype=torch.float64), dim=0)
    seen = torch.eye(6, dtype=torch.float64) - torch.outer(blind, blind)
    covariance = fuse(1e9 * seen, P, torch.ones(6, dtype=torch.float64))
    left = 1 / (blind @ torch.linalg.inv(P) @ blind)          # variance along `blind`, all else being known
    assert (blind @ covariance @ blind).item() == pytest.approx(left.item(), rel=1e-5)
    assert (covariance - left * torch.outer(blind, blind)).abs().max() < 1e-6


@pytest.mark.parametrize('hessian', [
    torch.zeros(6, 6), torch.full((6, 6), torch.nan), torch.full((6, 6), torch.inf), 1e300 * torch.ones(6, 6),
    torch.diag(torch.tensor([1e20, 1e12, 1e-20, 0, 1e6, 1])), -1e6 * torch.eye(6), 1e-300 * torch.eye(6),
    torch.diag(torch.tensor([1e6] * 6)) + torch.triu(torch.ones(6, 6), 1)])
@pytest.mark.parametrize('prior_scale', [1e-3, 1.0, 1e3])
def test_any_hessian_gives_a_valid_covariance_between_floor_and_prior(hessian, prior_scale):
    generator = torch.Generator().manual_seed(8)
    P = prior_scale ** 2 * correlated(generator)
    covariance = check_covariance(hessian_covariance(floor_m=LOWEST_M, floor_deg=LOWEST_DEG).covariance(hessian, P))
    floor = floor_covariance(LOWEST_M, LOWEST_DEG)
    slack = 1e-9 * P.diagonal().max() * torch.eye(6)
    assert torch.linalg.eigvalsh(P + floor + slack - covariance)[0] >= 0
    assert torch.linalg.eigvalsh(covariance - floor + slack)[0] >= 0


def test_a_low_score_widens_and_a_full_one_does_not():
    H, P = 1e6 * torch.eye(6, dtype=torch.float64), 1e3 * torch.eye(6, dtype=torch.float64)
    plain, scored = hessian_covariance(), hessian_covariance(inflation=2.0)
    torch.testing.assert_close(scored.covariance(H, P, 1.0), plain.covariance(H, P, 0.3))
    floor = floor_covariance(0.002, 0.05)
    widened = (scored.covariance(H, P, 0.5) - floor).diagonal() / (plain.covariance(H, P) - floor).diagonal()
    torch.testing.assert_close(widened, torch.full_like(widened, math.exp(2.0)), rtol=1e-5, atol=0)   # e^(2 * 0.5), squared


def test_fuse_has_the_gradient_of_its_formula():
    generator = torch.Generator().manual_seed(9)
    H, P = torch.linalg.inv(correlated(generator)), correlated(generator)
    scale = torch.rand(6, generator=generator, dtype=torch.float64) + 0.5
    assert torch.autograd.gradcheck(lambda s, p: fuse(H, p * P, s), (scale.requires_grad_(), torch.ones(1).double().requires_grad_()))


def test_the_calibration_survives_the_manifest():
    calibration = hessian_covariance(inflation=0.25)
    assert from_mapping(HessianCovariance, to_mapping(calibration), 'map.yaml') == calibration
    assert '50 held-out frames' in calibration.describe()
    with pytest.raises(AprlocError, match='floor_m is 2e-05; it must be at least 0.0001'):
        from_mapping(HessianCovariance, {**to_mapping(calibration), 'floor_m': 2e-5}, 'map.yaml')
