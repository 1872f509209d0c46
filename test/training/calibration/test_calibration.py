"""Gate and covariance of a refiner, calibrated on trials, against worlds whose answer is known."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from calibration_fixtures import PRIOR, World, judge
from repository import ROOT

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.covariance import HessianCovariance, check_covariance, residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.gate import Gate, Risk
from aprloc_ros.geometry import se3_exp
from aprloc_ros.map_bundle import load_map
from aprloc_ros.refinement.refined import Refined, kept
from aprloc_ros.scoring.uncertainty import score_covariances
from aprloc_ros.training.calibration.from_trials import calibrate
from aprloc_ros.training.calibration.questions import Questions
from aprloc_ros.training.calibration.refiner_calibration import RefinerScores, with_refiners
from aprloc_ros.training.calibration.trials import Trial, outcomes, try_frame, try_negatives

DEMO = ROOT / 'maps' / 'demo'


@pytest.fixture(scope='module')
def world():
    """A calibration on 80 frames, and 400 new trials of the same world."""
    world = World(0)
    trials = world.trials(80)
    return calibrate(trials, PRIOR), trials, world.trials(400, per_frame=1)


def test_the_gate_keeps_its_promises_on_new_frames(world):
    calibration, _, fresh = world
    status = [judgement.status for judgement in judge(calibration, fresh)]
    genuine = [i for i, trial in enumerate(fresh) if not trial.negative]
    refined = [i for i in genuine if status[i] == 'refined']
    harmful = outcomes(fresh, PRIOR).harmful
    assert len(refined) >= 0.85 * len(genuine)
    assert harmful[genuine].double().mean() > 0.05 and harmful[refined].double().mean() <= 0.02
    negative = [status[i] for i, trial in enumerate(fresh) if trial.negative]
    assert negative.count('rejected') >= 0.95 * len(negative)


def test_where_refinement_fails_the_credible_prior_is_kept(world):
    calibration, _, fresh = world
    found = outcomes(fresh, PRIOR)
    status = [judgement.status for judgement, bad in zip(judge(calibration, fresh), found.harmful) if bad]
    assert status.count('prior_kept') > 0.8 * len(status)


def test_the_covariance_of_new_refined_poses_is_right(world):
    calibration, _, fresh = world
    passed = [(t, j.score) for t, j in zip(fresh, judge(calibration, fresh)) if not t.negative and j.status == 'refined']
    xi = residuals(torch.stack([t.refined.T_map_cam for t, _ in passed]), torch.stack([t.T_truth for t, _ in passed]))
    claimed = torch.stack([check_covariance(calibration.covariance.covariance(t.refined.hessian, PRIOR, score))
                           for t, score in passed])
    assert 5 < score_covariances(xi, claimed).anees < 7.2
    assert score_covariances(xi, claimed / 9).anees > 30


def test_the_calibration_survives_the_manifest_and_says_what_it_is(world):
    calibration, trials, _ = world
    assert from_mapping(Gate, to_mapping(calibration.gate), 'map.yaml') == calibration.gate
    assert from_mapping(HessianCovariance, to_mapping(calibration.covariance), 'map.yaml') == calibration.covariance
    text = calibration.describe(trials)
    assert 'of 80 held-out frames' in text and 'of 240 images of no place' in text and len(text.splitlines()) == 2


def test_equal_trials_give_equal_calibrations(world):
    calibration, trials, _ = world
    assert calibrate(trials, PRIOR).gate == calibration.gate


def test_a_refiner_that_is_never_right_is_never_accepted():
    world = World(1)
    trials = [Trial(t.frame, t.negative, t.T_prior, t.prior_score, kept(t.T_prior), t.T_truth) for t in world.trials(30)]
    calibration = calibrate(trials, PRIOR)
    status = [judgement.status for judgement in calibration.judgements]
    assert 'refined' not in status and status[:30].count('prior_kept') >= 25
    assert calibration.gate.judge(world.trial(0).refined, trials[0].T_prior, PRIOR, 0.95).status != 'refined'
    assert calibration.covariance.frames == 0 and not calibration.gate.supported
    assert 'not calibrated' in calibration.describe(trials)


def test_few_frames_are_calibrated_but_not_supported():
    trials = World(2).trials(8)
    calibration = calibrate(trials, PRIOR)
    assert not calibration.gate.supported and not calibration.covariance.supported
    assert 'too few' in calibration.describe(trials)
    with pytest.raises(AprlocError, match='held-out frame'):
        calibrate(trials[8:], PRIOR)


def test_negatives_are_tried_with_the_numbers_of_their_frames():
    images = torch.rand(6, 3, 24, 32, generator=torch.Generator().manual_seed(3))
    seen = []

    def answer(image):
        seen.append(image)
        return torch.eye(4, dtype=torch.float64), 0.9, kept(torch.eye(4)), 0.25

    genuine = try_frame(answer(images[0]), 7, torch.eye(4), left_out=5)
    assert torch.equal(seen.pop(), images[0])
    assert (genuine.frame, genuine.left_out, genuine.remoteness, genuine.negative) == (7, 5, 0.25, '')
    trials = try_negatives(answer, images, [10, 11, 12, 13, 14, 15], torch.Generator().manual_seed(4), per_frame=2)
    assert len(trials) == len(seen) == 3 + 12
    assert all(trial.T_truth is None and trial.negative for trial in trials)
    assert {trial.frame for trial in trials[3:]} == set(range(10, 16))


def test_all_questions_about_an_image_bear_its_number():
    frames = tuple(SimpleNamespace(image_path=Path(name)) for name in ('a.png', 'a.png', 'b.png', 'a.png', 'c.png'))
    assert Questions(frames, None, torch.zeros(5), torch.zeros(5), ()).images == [0, 0, 2, 0, 4]


def test_frames_that_trained_count_for_the_covariance_alone(world):
    calibration, trials, _ = world
    more = [replace(trial, frame=1000 + trial.frame, trained=True, left_out=1) for trial in World(7).trials(40, per_frame=0)]
    both = calibrate([*trials, *more], PRIOR)
    assert replace(both.gate, risks=()) == replace(calibration.gate, risks=()) and both.covariance.frames > calibration.covariance.frames + 30
    assert 'of 80 held-out frames' in both.describe([*trials, *more])
    with pytest.raises(AprlocError, match='held-out frame'):
        calibrate(more, PRIOR)


def test_outcomes_by_hand():
    """Median errors are 1 cm and 0.1 degrees; priors are 20 cm and 2 degrees off unless said otherwise."""
    def trial(refined_m, refined_deg, prior_m=0.2, prior_deg=2.0):
        def moved(metres, degrees):
            xi = torch.zeros(6, dtype=torch.float64)
            xi[0], xi[3] = metres, math.radians(degrees)
            return se3_exp(xi)
        refined = Refined(moved(refined_m, refined_deg), torch.eye(6), 1.0, 0.5, 3, 'converged', {})
        return Trial(0, '', moved(prior_m, prior_deg), None, refined, torch.eye(4, dtype=torch.float64))

    cases = [(trial(0.01, 0.1), True, False)] * 5 + [
        (trial(0.04, 0.4), True, False),                          # within five medians
        (trial(0.06, 0.1), False, False),                         # better than its prior, yet not right
        (trial(0.015, 0.1, prior_m=0.001), False, False),         # more than a median worse than its prior
        (trial(0.005, 0.1, prior_m=0.001), True, False),
        (trial(0.26, 0.1), False, True), (trial(0.24, 0.1), False, False), (trial(0.01, 2.6), False, True)]
    found = outcomes([case for case, _, _ in cases], PRIOR)
    assert found.good.tolist() == [good for _, good, _ in cases]
    assert found.harmful.tolist() == [harmful for _, _, harmful in cases]
    assert found.credible.all()
    assert not outcomes([trial(0.01, 0.1, prior_m=0.6)], PRIOR).credible.any()


def test_a_drive_of_which_half_is_of_another_place_spoils_nothing():
    """Its images are answered with poses anywhere, and signals that tell."""
    calibration = calibrate(World(5, fails=0.5).trials(120), PRIOR)
    fresh = World(6).trials(400, per_frame=0)
    passed = [(t, j.score) for t, j in zip(fresh, judge(calibration, fresh), strict=True) if j.status == 'refined']
    assert len(passed) > 300
    xi = residuals(torch.stack([t.refined.T_map_cam for t, _ in passed]), torch.stack([t.T_truth for t, _ in passed]))
    claimed = torch.stack([calibration.covariance.covariance(t.refined.hessian, PRIOR, score) for t, score in passed])
    scores = score_covariances(xi, claimed)
    assert 4 < scores.anees < 7.2 and scores.coverage[2].share > 0.92


def test_wrong_answers_are_counted_by_threshold(world):
    calibration, trials, _ = world
    risks = calibration.gate.risks
    assert risks[0].accept == calibration.gate.accept
    assert risks[0].answered == sum(j.status == 'refined' for j, t in zip(calibration.judgements, trials, strict=True) if not t.negative)
    assert [risk.accept for risk in risks] == sorted(risk.accept for risk in risks)
    assert risks[-1].wrong <= risks[0].wrong


def test_first_poses_that_would_be_kept_are_counted(world):
    """They are as wide as they claim: of some the rotation is wrong, by the angle of its trace."""
    calibration, trials, _ = world
    kept = [t for j, t in zip(calibration.judgements, trials, strict=True) if not t.negative and j.status == 'prior_kept']
    cosines = [(torch.trace(t.T_prior[:3, :3].T @ t.T_truth[:3, :3]).item() - 1) / 2 for t in kept]
    wrong = sum(math.degrees(math.acos(cosine)) > 5 for cosine in cosines)
    assert 0 < wrong < len(kept) and calibration.gate.kept_risks[0] == Risk(calibration.gate.keep, len(kept), wrong)


def test_answers_of_another_place_have_no_say_in_the_covariance():
    """Two of forty answers, of frames that trained the map, are metres off; they score less than all others that pass."""
    world = World(5, fails=0.0)
    right = world.trials(40, per_frame=1)
    astray = [replace(trial, trained=True, refined=replace(
        trial.refined, T_map_cam=trial.T_truth @ se3_exp(torch.tensor([3.0, 0, 0, 0, 0.5, 0]).double()), signals={'inlier_share': 0.6, 'agreement': 0.6}))
        for trial in (world.trial(40), world.trial(41))]
    alone, found = calibrate(right, PRIOR), calibrate([*right, *astray], PRIOR)
    assert all(found.gate.judge(t.refined, t.T_prior, PRIOR, t.prior_score).status == 'refined' for t in astray)
    promised = found.gate.promising(0.01)
    assert all(promised.judge(t.refined, t.T_prior, PRIOR, t.prior_score).status != 'refined' for t in astray)
    assert found.covariance.translation_scale == pytest.approx(alone.covariance.translation_scale, rel=0.1)
    assert [tier.widening for tier in found.covariance.tiers] == pytest.approx(
        [tier.widening for tier in alone.covariance.tiers], rel=0.1)


def test_of_refiners_that_report_the_same_the_one_that_is_believed_more_often_is_chosen():
    """Where a map believes few of its refined poses, most of what is reported are first poses, and all medians are theirs."""
    bundle = load_map(DEMO)

    def scores(median_m, refined_share):
        return RefinerScores(bundle.manifest.refiners['nre'], [], median_m, 1.0, refined_share, '')
    chosen = [with_refiners(bundle, {'align': scores(*align), 'nre': scores(*nre)}).manifest.refiner
              for align, nre in (((0.1, 0.0), (0.1, 0.25)), ((0.1, 0.3), (0.1, 0.25)), ((0.09, 0.1), (0.1, 0.25)), ((0.1, 0.0), (0.1, 0.0)))]
    assert chosen == ['nre', 'align', 'align', 'none']
