"""The conformal last step: each quarter of difficulty is covered, whatever the distribution."""

import pytest
import torch
from scipy import stats

from aprloc_ros.covariance import HessianCovariance, Tier
from aprloc_ros.training.calibration.tiers import FEWEST, tiers

INSIDE = stats.chi2(6).ppf(0.95)


def drawn(count, generator, tails=4.0):
    """Difficulties, and squared distances with heavy tails that a fit made right on average: the harder half is worse."""
    inflation = 1 + 3 * torch.rand(count, generator=generator, dtype=torch.float64)
    squared = torch.randn(count, 6, generator=generator, dtype=torch.float64).square().sum(1)
    mixed = torch.rand(count, generator=generator) < 0.1
    return inflation, squared * torch.where(mixed, tails, 1.0) * torch.where(inflation > 2.5, 1.6, 0.7)


def test_each_quarter_is_covered():
    generator = torch.Generator().manual_seed(0)
    inside = torch.zeros(4)
    for _ in range(40):
        found = HessianCovariance(1, 1, 1, 0, 1e-3, 1e-2, 200, 0, True, tiers=tiers(*drawn(200, generator)))
        inflation, squared = drawn(2000, generator)
        widening = torch.tensor([found.widening(each) for each in inflation.tolist()])
        for quarter, rows in enumerate(inflation.argsort().tensor_split(4)):
            inside[quarter] += (squared[rows] <= INSIDE * widening[rows] ** 2).double().mean() / 40
    assert (inside >= 0.94).all()
    assert (inside[2:] < 0.98).all()


def test_right_covariances_are_hardly_widened():
    generator = torch.Generator().manual_seed(1)
    squared = torch.randn(400, 6, generator=generator).square().sum(1)
    found = tiers(1 + torch.rand(400, generator=generator), squared)
    assert len(found) == 4 and all(1 <= tier.widening < 1.2 for tier in found)


@pytest.mark.parametrize('count, expected', [(5, 1), (2 * FEWEST - 1, 1), (2 * FEWEST, 2), (400, 4)])
def test_few_frames_give_few_tiers(count, expected):
    found = tiers(torch.linspace(1, 3, count), torch.linspace(0, 30, count))
    assert len(found) == expected and found[-1].most_inflation == pytest.approx(3)
    if count < FEWEST:   # wide: no frame is outside
        assert found[0].widening ** 2 * INSIDE == pytest.approx(30)


def test_frames_that_are_all_alike_are_one_tier():
    assert len(tiers(torch.full((200,), 1.7), torch.arange(200.0))) == 1


def test_the_tier_of_a_query_widens_its_whole_covariance():
    found = HessianCovariance(1, 1, 1, 1.0, 1e-3, 1e-2, 100, 0, True, tiers=(Tier(1.2, 1.0), Tier(2.0, 1.5)))
    plain = HessianCovariance(1, 1, 1, 1.0, 1e-3, 1e-2, 100, 0, True)
    H, prior = 1e4 * torch.eye(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)
    for score, factor in ((1.0, 1.0), (0.5, 1.5), (0.0, 1.5)):
        torch.testing.assert_close(found.covariance(H, prior, score), factor ** 2 * plain.covariance(H, prior, score))
        assert found.largest_scale(score) == pytest.approx(factor * plain.largest_scale(score))
