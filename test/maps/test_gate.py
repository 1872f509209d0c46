"""The gate: what it says of signals, good, missing and broken."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.gate import Gate, Risk, SignalScore, displacement_sigmas, gate_signals
from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.refined import Refined, kept
from aprloc_ros.training.calibration.risks import risks

PRIOR_COVARIANCE = torch.diag(torch.tensor([0.1, 0.1, 0.1, 0.02, 0.02, 0.02], dtype=torch.float64) ** 2)
T_PRIOR = se3_exp(torch.tensor([1.0, 2, 3, 0.1, 0.2, 0.3], dtype=torch.float64))


def refined(xi=(0.0,) * 6, before=2.0, after=1.0, **signals):
    T = T_PRIOR @ se3_exp(torch.tensor(xi, dtype=torch.float64))
    return Refined(T, torch.eye(6, dtype=torch.float64), before, after, 5, 'converged', signals)


def gate(accept=0.6, keep=0.4):
    return Gate(SignalScore(('closeness', 'inlier_share'), (-0.5, 0.5), (1.0, 8.0), 0.0),
                SignalScore(('prior_score', 'worked'), (0.9, 0.5), (50.0, 0.0), 0.0), accept, keep, 80, 240, True)


def test_score_is_the_logistic_function_of_the_signals():
    model = SignalScore(('a', 'b'), (0.5, 1.0), (2.0, 3.0), -1.0)
    assert model.score({'a': 0.7, 'b': 1.4, 'unknown': 9.0}) == pytest.approx(1 / (1 + math.exp(1 - 0.4 - 1.2)))
    assert model.score({'a': 0.7}) == pytest.approx(1 / (1 + math.exp(1 - 0.4)))
    assert model.score({}) == pytest.approx(1 / (1 + math.e))


def test_the_score_never_falls_when_a_signal_rises():
    generator = torch.Generator().manual_seed(0)
    model = SignalScore(('a', 'b'), (0.5, 0.5), (7.0, 0.0), 0.3)
    for a, b, more in torch.rand(100, 3, generator=generator).tolist():
        assert model.score({'a': a + more, 'b': b}) >= model.score({'a': a, 'b': b})
        assert model.score({'a': a, 'b': b + more}) == model.score({'a': a, 'b': b})


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_broken_signal_is_worth_nothing(value):
    assert gate().refined.score({'closeness': value, 'inlier_share': 1.0}) == 0.0
    assert gate().judge(refined(inlier_share=value), T_PRIOR, PRIOR_COVARIANCE, 0.5).status == 'rejected'


@pytest.mark.parametrize('value', [-1e300, 1e300])
def test_huge_signals_stay_within_zero_and_one(value):
    assert 0 < SignalScore(('a',), (0.0,), (1e5,), 0.0).score({'a': value}) < 1


def test_the_three_verdicts():
    judge = gate().judge
    good = judge(refined(inlier_share=0.9), T_PRIOR, PRIOR_COVARIANCE, 0.99)
    assert good.status == 'refined' and good.score > 0.9
    bad_refinement = judge(refined(inlier_share=0.1), T_PRIOR, PRIOR_COVARIANCE, 0.99)
    assert bad_refinement.status == 'prior_kept' and bad_refinement.score > 0.9
    nowhere = judge(refined(inlier_share=0.1), T_PRIOR, PRIOR_COVARIANCE, 0.6)
    assert nowhere.status == 'rejected' and nowhere.score < 0.1
    assert judge(kept(T_PRIOR), T_PRIOR, PRIOR_COVARIANCE, 0.99).status == 'prior_kept'
    assert judge(kept(T_PRIOR), T_PRIOR, PRIOR_COVARIANCE, 0.6).status == 'rejected'


def test_a_far_displacement_speaks_against_the_refined_pose():
    near, far = refined(inlier_share=0.55), refined((5.0, 0, 0, 0, 0, 0), inlier_share=0.55)
    assert gate().judge(near, T_PRIOR, PRIOR_COVARIANCE, 0.99).status == 'refined'
    assert gate().judge(far, T_PRIOR, PRIOR_COVARIANCE, 0.99).status == 'prior_kept'


def test_without_a_prior_there_is_none_to_keep():
    assert gate().judge(refined(inlier_share=0.9), None, PRIOR_COVARIANCE).status == 'refined'
    assert gate(keep=0.0).judge(refined(inlier_share=0.1), None, PRIOR_COVARIANCE).status == 'rejected'


def test_a_threshold_of_one_accepts_nothing_and_of_zero_everything_sound():
    best = refined(inlier_share=1e9)
    assert gate(accept=1.0, keep=1.0).judge(best, T_PRIOR, PRIOR_COVARIANCE, 1.0).status == 'rejected'
    assert gate(accept=0.0).judge(refined(inlier_share=-1e9), T_PRIOR, PRIOR_COVARIANCE, 1.0).status == 'refined'
    assert gate(accept=0.0, keep=1.0).judge(kept(T_PRIOR), T_PRIOR, PRIOR_COVARIANCE, 1.0).status == 'rejected'


def test_signals_that_the_gate_adds():
    signals = gate_signals(refined((0.1, 0, 0, 0, 0.02, 0), 4.0, 1.0, opacity=0.8), T_PRIOR, PRIOR_COVARIANCE, 0.7)
    assert signals['opacity'] == 0.8 and signals['prior_score'] == 0.7 and signals['worked'] == 1.0
    assert signals['cost_drop'] == pytest.approx(math.log(4))
    assert signals['closeness'] == pytest.approx(-math.log1p(math.sqrt(2 / 6)))      # two axes of one sigma, of six


def test_displacement_is_mahalanobis():
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    C, xi = A @ A.T, 0.1 * torch.randn(6, generator=generator, dtype=torch.float64)
    expected = math.sqrt((xi @ torch.linalg.inv(C) @ xi).item() / 6)
    assert displacement_sigmas(T_PRIOR @ se3_exp(xi), T_PRIOR, C) == pytest.approx(expected)


@pytest.mark.parametrize('before, after', [(math.inf, math.inf), (0.0, 0.0), (math.nan, 1.0), (1.0, math.nan)])
def test_costs_that_say_nothing_are_left_out(before, after):
    assert 'cost_drop' not in gate_signals(refined(before=before, after=after), T_PRIOR, PRIOR_COVARIANCE)


@pytest.mark.parametrize('after, drop', [(0.0, 10.0), (1e-300, 10.0), (1e300, -10.0)])
def test_extreme_costs_are_bounded(after, drop):
    signals = gate_signals(refined(before=1.0, after=after), T_PRIOR, PRIOR_COVARIANCE)
    assert signals['cost_drop'] == pytest.approx(drop)


def test_a_pose_that_is_not_finite_is_rejected():
    broken = Refined(torch.full((4, 4), torch.nan, dtype=torch.float64), torch.eye(6), 1.0, 0.1, 3, 'converged',
                     {'inlier_share': 1.0})
    assert gate().judge(broken, T_PRIOR, PRIOR_COVARIANCE, 0.1).status == 'rejected'


def test_the_gate_survives_the_manifest():
    assert from_mapping(Gate, to_mapping(gate()), 'map.yaml') == gate()


@pytest.mark.parametrize('change, says', [
    ({'accept': 1.5}, 'accept is 1.5; it must be from 0.0 to 1.0'),
    ({'refined': {'signals': ['a'], 'centres': [0.0], 'weights': [-1.0], 'bias': 0.0}}, 'at least 0'),
    ({'refined': {'signals': ['a', 'a'], 'centres': [0.0, 0.0], 'weights': [1.0, 1.0], 'bias': 0.0}}, 'no signal twice'),
    ({'refined': {'signals': ['a'], 'centres': [], 'weights': [1.0], 'bias': 0.0}}, 'as many of each'),
    ({'loud': True}, 'unknown key loud')])
def test_what_is_no_gate_is_refused(change, says):
    with pytest.raises(AprlocError, match=says):
        from_mapping(Gate, {**to_mapping(gate()), **change}, 'map.yaml')


def risky(*risks):
    return Gate(SignalScore((), (), (), 0.0), SignalScore((), (), (), 0.0), risks[0].accept if risks else 0.2, 0.5, 100, 100, True, risks)


def test_confidence_is_that_of_clopper_and_pearson():
    """Of 230 right answers, 1 % wrong is excluded with 90 %: 0.99^230 = 0.0991."""
    assert Risk(0.1, 230, 0).confidence(0.01) == pytest.approx(1 - 0.99 ** 230)
    assert Risk(0.1, 300, 4).confidence(0.02) == pytest.approx(1 - stats.binom.cdf(4, 300, 0.02))
    assert Risk(0.1, 0, 0).confidence(0.5) == 0.0


def test_a_smaller_share_of_wrong_poses_costs_answers():
    gate = risky(Risk(0.2, 1000, 30), Risk(0.5, 900, 8), Risk(0.8, 500, 0))
    assert [gate.promising(share).accept for share in (0.05, 0.02, 0.01)] == [0.2, 0.5, 0.8]
    assert gate.promising(0.01).promising(0.01) == gate.promising(0.01)
    assert 'confidence 99%' in gate.promise(0.01) and '50% of those' in gate.promise(0.01)


def test_where_nothing_is_sure_most_is_answered_of_which_no_more_was_wrong():
    gate = risky(Risk(0.2, 240, 3), Risk(0.3, 230, 1), Risk(0.9, 137, 0))
    assert [gate.promising(share).accept for share in (0.03, 0.01, 0.004)] == [0.2, 0.3, 0.9]
    assert 'confidence 67%: too few calibration frames for more' in gate.promise(0.01)


def test_what_the_frames_do_not_support_is_said():
    gate = risky(Risk(0.2, 100, 3), Risk(0.6, 50, 0))
    assert gate.promising(0.001).accept == 0.6 and 'too few' in gate.promise(0.001)
    assert risky().promising(0.01) == replace(risky(), keep=1.0) and 'older version' in risky().promise(0.01)


def test_an_image_that_is_asked_twice_is_one_witness():
    scores, wrong = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), torch.tensor([False, False, True, True, False])
    assert risks(scores, wrong, torch.tensor([0, 0, 1, 1, 2]), 0.4) == (Risk(0.4, 3, 1), Risk(pytest.approx(0.6), 2, 1), Risk(pytest.approx(0.7), 1, 0))


def test_a_first_pose_is_kept_only_where_so_few_were_wrong():
    gate = replace(risky(Risk(0.2, 1000, 0)), kept_risks=(Risk(0.5, 60, 4), Risk(0.7, 50, 1), Risk(0.9, 20, 0)))
    assert [gate.promising(share).keep for share in (0.2, 0.1, 0.01)] == [0.5, 0.7, 1.0]
    assert 'no first pose' in gate.promise(0.01) and 'no first pose' not in gate.promise(0.1)


def test_the_bound_holds_on_answers_to_come():
    """Wrong answers have lower scores; of 100 calibrations with 300 answers each, at most 10 or so break their promise."""
    generator = torch.Generator().manual_seed(0)
    broken = 0
    for _ in range(100):
        scores, new = (torch.rand(count, generator=generator, dtype=torch.float64) for count in (300, 4000))
        wrong, new_wrong = (torch.rand(len(s), generator=generator) < 0.1 * (1 - s) ** 3 for s in (scores, new))
        gate = risky(*risks(scores, wrong, torch.arange(300), 0.0)).promising(0.03)
        passed = new > gate.accept
        broken += (new_wrong & passed).sum() > 0.03 * passed.sum()
    assert broken <= 15
