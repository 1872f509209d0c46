"""Metrics of uncertainty against SciPy, closed forms and counting by hand."""

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats

from aprloc_ros.distributions import binomial_cdf, binomial_interval, chi2_cdf, chi2_quantile
from aprloc_ros.errors import AprlocError
from aprloc_ros.scoring.uncertainty import (
    LEVELS,
    anees_interval,
    auroc,
    auroc_interval,
    frames_needed,
    measure_uncertainty,
    negative_log_likelihood,
    nominal_levels,
    risk_coverage,
    score_covariances,
    score_scores,
    squared_mahalanobis,
)
from aprloc_ros.scoring.uncertainty_figure import draw_reliability
from aprloc_ros.scoring.uncertainty_table import uncertainty_notes, uncertainty_table


@pytest.mark.parametrize('degrees', [1, 6, 60, 600, 30_000])
def test_chi_square_is_scipys(degrees):
    for probability in (0.0, 0.005, 0.5, 0.975, 0.9999):
        quantile = stats.chi2(degrees).ppf(probability)
        assert chi2_quantile(probability, degrees) == pytest.approx(quantile, rel=1e-8, abs=1e-12)
        assert chi2_cdf(quantile, degrees) == pytest.approx(probability, abs=1e-8)


@pytest.mark.parametrize('successes, trials', [(0, 1), (1, 1), (0, 50), (50, 50), (3, 20), (97, 100), (990, 1000)])
def test_binomial_is_scipys(successes, trials):
    exact = stats.binomtest(successes, trials).proportion_ci(0.95, 'exact')
    assert binomial_interval(successes, trials) == pytest.approx((exact.low, exact.high), abs=1e-9)
    for probability in (0.0, 0.01, 0.5, 0.97, 1.0):
        assert binomial_cdf(successes, trials, probability) == pytest.approx(
            stats.binom(trials, probability).cdf(successes), abs=1e-9)


def sampled(count, seed, claimed=1.0):
    """Residuals of random covariances, and these covariances times `claimed`."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(count, 6, 6)) * np.array([0.02, 0.03, 0.05, 0.01, 0.01, 0.02])[:, None]
    covariance = A @ A.transpose(0, 2, 1) + 1e-6 * np.eye(6)
    xi = np.stack([rng.multivariate_normal(np.zeros(6), C) for C in covariance])
    return torch.from_numpy(xi), claimed * torch.from_numpy(covariance)


def test_likelihood_and_distances_are_scipys():
    xi, covariance = sampled(30, 0)
    expected = -np.mean([stats.multivariate_normal(np.zeros(6), C).logpdf(x) for x, C in zip(xi, covariance)])
    assert negative_log_likelihood(xi, covariance) == pytest.approx(expected, rel=1e-9)
    by_hand = [x @ np.linalg.inv(C) @ x for x, C in zip(xi.numpy(), covariance.numpy())]
    np.testing.assert_allclose(squared_mahalanobis(xi, covariance), by_hand, rtol=1e-6)
    np.testing.assert_allclose(nominal_levels(torch.tensor(by_hand)), stats.chi2(6).cdf(by_hand), atol=1e-9)


def test_right_covariances_are_found_right_and_wrong_ones_wrong():
    right = score_covariances(*sampled(400, 1))
    assert right.consistent and right.anees == pytest.approx(6, abs=0.4)
    for coverage in right.coverage:
        assert coverage.interval[0] <= coverage.nominal <= coverage.interval[1]
    bold, shy = score_covariances(*sampled(400, 1, 0.5)), score_covariances(*sampled(400, 1, 2.0))
    assert bold.anees == pytest.approx(2 * right.anees) and not bold.consistent and not shy.consistent
    assert bold.coverage[0].share < 0.3 and shy.coverage[0].share > 0.75
    assert right.nll < bold.nll and right.nll < shy.nll


@pytest.mark.parametrize('count', [1, 20, 100, 2000])
def test_the_anees_interval_is_chi_squares(count):
    interval = np.array(stats.chi2(6 * count).ppf([0.025, 0.975])) / count
    assert anees_interval(count) == pytest.approx(tuple(interval), rel=1e-8)


def test_auroc_counts_pairs():
    rng = np.random.default_rng(2)
    score = torch.from_numpy(rng.integers(0, 8, 60) / 8)     # many ties
    failed = torch.from_numpy(rng.random(60) < 0.3 + 0.4 * (score.numpy() < 0.4))
    pairs = [(good > bad) + 0.5 * (good == bad) for good in score[~failed].tolist() for bad in score[failed].tolist()]
    assert auroc(score, failed) == pytest.approx(np.mean(pairs), abs=1e-12)
    statistic = stats.mannwhitneyu(score[~failed], score[failed]).statistic
    assert auroc(score, failed) == pytest.approx(statistic / len(pairs), abs=1e-12)


def test_the_auroc_interval_holds_about_as_often_as_it_says():
    """Exponential scores, the case of Hanley and McNeil: rate r against 1 gives an AUROC of r / (1 + r)."""
    generator = torch.Generator().manual_seed(3)
    failed = torch.arange(80) < 30
    held = []
    for _ in range(400):
        score = torch.empty(80).exponential_(generator=generator) / torch.where(failed, 3.0, 1.0)
        low, high = auroc_interval(auroc(score, failed), 30, 50)
        held.append(low <= 0.75 <= high)
    assert 0.92 < np.mean(held) < 0.98


def test_risk_coverage_by_hand():
    score = torch.tensor([0.9, 0.8, 0.7, 0.2])
    coverage, risk = risk_coverage(score, torch.tensor([False, True, False, True]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert score_scores(score, torch.tensor([False, True, False, True])).aurc == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_risk_of_ties_is_the_mean_over_their_orders():
    failed = torch.tensor([True, False, False, True, False])
    score = torch.tensor([0.5, 0.5, 0.5, 0.9, 0.1])
    generator = torch.Generator().manual_seed(4)
    orders = [risk_coverage(score + 1e-6 * torch.rand(5, generator=generator), failed)[1] for _ in range(4000)]
    torch.testing.assert_close(risk_coverage(score, failed)[1], torch.stack(orders).mean(0), atol=0.03, rtol=0)


@pytest.mark.parametrize('failed', [torch.zeros(30, dtype=torch.bool), torch.ones(30, dtype=torch.bool)])
def test_a_score_without_both_kinds_is_not_judged(failed):
    scores = score_scores(torch.rand(30, generator=torch.Generator().manual_seed(5)), failed)
    assert scores.auroc is None and not scores.supported and scores.aurc == failed.double().mean()


def test_a_claim_needs_frames():
    assert [frames_needed(level) for level in LEVELS] == [20, 20, 20, 100]
    few = measure_uncertainty(*sampled(40, 6), torch.rand(40), torch.arange(40) < 3)
    notes = '\n'.join(uncertainty_notes(few))
    assert '40 frames are too few to support a claim on 99% coverage (at least 100)' in notes
    assert '3 of 40 frames failed: too few' in notes
    assert '95% coverage' not in notes
    enough = measure_uncertainty(*sampled(120, 7), torch.rand(120), torch.arange(120) < 20)
    assert uncertainty_notes(enough) == []


def test_the_table_shows_the_numbers_and_the_doubts():
    bold = measure_uncertainty(*sampled(50, 8, 0.3), torch.linspace(0, 1, 60), torch.arange(60) < 10)
    table = uncertainty_table({'the map': bold}).splitlines()
    assert f'{bold.covariance.anees:.2f}' in table[1] and '1.00 (1.00-1.00)' in table[1]
    assert table[1].count('?') == 1       # 99 %, of 50 frames
    assert any('overconfident' in line for line in table)
    assert len(table[0]) == len(table[1])
    assert bold.to_dict()['covariance']['count'] == 50 and bold.to_dict()['score']['count'] == 60


@pytest.mark.parametrize('xi, covariance, says', [
    (torch.zeros(0, 6), torch.zeros(0, 6, 6), 'at least one frame'),
    (torch.zeros(3, 6), torch.eye(6).expand(2, 6, 6), 'N x 6'),
    (torch.full((3, 6), torch.nan), torch.eye(6).expand(3, 6, 6), 'finite'),
    (torch.zeros(2, 6), torch.stack([torch.eye(6), -torch.eye(6)]), 'covariance 1 of 2 is not positive definite')])
def test_what_cannot_be_measured_says_so(xi, covariance, says):
    with pytest.raises(AprlocError, match=says):
        score_covariances(xi, covariance)


@pytest.mark.parametrize('score, failed, says', [
    (torch.zeros(0), torch.zeros(0, dtype=torch.bool), 'at least one frame'),
    (torch.zeros(3), torch.zeros(2, dtype=torch.bool), 'N numbers each'),
    (torch.tensor([torch.nan]), torch.zeros(1, dtype=torch.bool), 'not be NaN'),
    (torch.zeros(2), torch.zeros(2), 'true or false')])
def test_scores_that_are_none_say_so(score, failed, says):
    with pytest.raises(AprlocError, match=says):
        score_scores(score, failed)


def test_the_figure_shows_the_curve(tmp_path):
    xi, covariance = sampled(80, 9)
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    draw_reliability(axes, xi, covariance)
    observed = dict(zip(*(line.tolist() for line in axes.lines[1].get_data())))
    squared = squared_mahalanobis(xi, covariance).numpy()
    level = 100 * stats.chi2(6).cdf(np.median(squared))
    nearest = min(observed, key=lambda nominal: abs(nominal - level))
    assert observed[nearest] == pytest.approx(50, abs=2)
    figure.savefig(tmp_path / 'uncertainty.png')
    picture = cv2.imread(str(tmp_path / 'uncertainty.png'))
    assert picture.std() > 5 and min(picture.shape[:2]) > 300
