"""A second drive improves a calibration or leaves it as it is; the worlds' true covariances are known."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from calibration_fixtures import PRIOR, World, judge
from tiny_capture import write_wall

from aprloc_ros.covariance import residuals
from aprloc_ros.geometry import se3_exp
from aprloc_ros.manifest import RefinerSpec
from aprloc_ros.map_bundle import load_map, save_manifest
from aprloc_ros.scoring.uncertainty import negative_log_likelihood
from aprloc_ros.training import calibrate_map
from aprloc_ros.training.calibration.comparison import covariance_holds, gate_holds, why_no_better, with_what_holds
from aprloc_ros.training.calibration.from_trials import calibrate
from aprloc_ros.training.calibration.refiner_calibration import RefinerScores
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.request import content_hash


@pytest.fixture(scope='module')
def known():
    """What a good drive taught."""
    found = calibrate(World(0).trials(60, per_frame=1), PRIOR)
    return RefinerSpec(found.gate, found.covariance)


def test_what_was_wrong_is_replaced_and_the_answers_of_a_third_drive_are_likelier(known):
    timid = replace(known, covariance=replace(known.covariance, translation_scale=10 * known.covariance.translation_scale))
    second, third = World(1).trials(30, per_frame=1), World(2).trials(100, per_frame=0)
    assert why_no_better(second, PRIOR, timid, PRIOR) == ''
    new = calibrate(second, PRIOR)
    passed = [(t, j.score) for t, j in zip(third, judge(new, third), strict=True) if j.status == 'refined']
    xi = residuals(torch.stack([t.refined.T_map_cam for t, _ in passed]), torch.stack([t.T_truth for t, _ in passed]))
    before, after = (negative_log_likelihood(xi, torch.stack([c.covariance(t.refined.hessian, PRIOR, s) for t, s in passed]))
                     for c in (timid.covariance, new.covariance))
    assert after < before - 1


def test_what_a_few_frames_in_a_worse_light_would_teach_is_left(known):
    """Half of their refined poses are wrong, and the signals hardly tell: the calibration on them is the worse one."""
    assert 'nats a frame' in why_no_better(World(3, fails=0.5, noise=0.3).trials(40, per_frame=1), PRIOR, known, PRIOR)


def test_a_drive_that_is_too_short_or_of_another_place_teaches_nothing(known):
    assert '8 frames are too few' in why_no_better(World(4).trials(8), PRIOR, known, PRIOR)
    assert 'would believe' in why_no_better(World(5, fails=1.0).trials(30, per_frame=1), PRIOR,
                                            replace(known, gate=replace(known.gate, accept=0.0)), PRIOR)


def test_a_drive_of_which_a_map_knows_nothing_leaves_its_calibration(known):
    """Before, a calibration that believes nothing took the place of one that did not believe these answers either."""
    trials = World(5, fails=1.0).trials(30, per_frame=1)
    assert sum(j.status == 'refined' for j in judge(SimpleNamespace(gate=known.gate), trials)) < 5
    assert 'another place' in why_no_better(trials, PRIOR, known, PRIOR)


def test_a_gate_of_too_few_frames_to_keep_its_promises_gives_way_to_one_of_enough(known):
    """On the very drive that a gate of enough frames does not give way to."""
    found = SimpleNamespace(trials=World(3, fails=0.5, noise=0.3).trials(40, per_frame=1),
                            spec=replace(known, gate=replace(known.gate, supported=True)))

    def doubt(supported: bool) -> str:
        has = replace(known, gate=replace(known.gate, supported=supported))
        return calibrate_map._doubt(SimpleNamespace(refiner='nre', refiners={'nre': has}, covariance=PRIOR), {'nre': found}, PRIOR)
    assert doubt(False) == '' and 'nats a frame' in doubt(True)


@pytest.mark.parametrize('again, asked', [('same', False), ('other', True)])
def test_another_drive_of_the_same_name_has_to_be_better_too(tiny_map, tmp_path, monkeypatch, again, asked):
    """Folders are called 'drive' or 'bag' wherever they lie."""
    same, other = (read_capture(write_wall(tmp_path / late / 'drive', with_depth=False, late=float(late))) for late in '01')
    directory, doubts = shutil.copytree(tiny_map, tmp_path / 'tiny'), []
    bundle = load_map(directory, 'cpu')
    save_manifest(directory, replace(bundle.manifest, data=bundle.manifest.data.calibrated_on('drive', content_hash(same))))
    monkeypatch.setattr(calibrate_map, '_doubt', lambda *rest: doubts.append(1) or 'no better')
    for name, answer in (('check_poses', SimpleNamespace(text='')), ('check_drive', ''), ('ask_some', []), ('calibrate_refiners', {}),
                         ('regressor_covariance', bundle.manifest.covariance), ('questions', None)):
        monkeypatch.setattr(calibrate_map, name, lambda *rest, answer=answer: answer)
    calibrate_map.calibrate_map(directory, (same if again == 'same' else other).root, device='cpu', say=[].append)
    assert bool(doubts) is asked


def test_a_map_that_believed_nothing_learns(known):
    silent = replace(known, gate=replace(known.gate, accept=1.0))
    assert why_no_better(World(6).trials(25, per_frame=1), PRIOR, silent, PRIOR) == ''


def thrice_as_far(trial):
    return trial if trial.negative else replace(trial, refined=replace(
        trial.refined, T_map_cam=trial.T_truth @ se3_exp(3 * residuals(trial.T_truth[None], trial.refined.T_map_cam[None])[0])))


def test_what_a_map_knew_holds_on_a_few_frames_of_the_same_world_and_not_where_errors_or_images_are_others(known):
    def drive(**world):
        return World(8, **world).trials(12)
    farther = [thrice_as_far(trial) for trial in drive(fails=0.0)]
    lost = [trial if trial.negative else replace(trial, refined=replace(
        trial.refined, T_map_cam=trial.T_truth @ se3_exp(torch.tensor([0.0, 3.0, 0, 0, 0, 0]).double()))) for trial in drive(fails=0.0)]
    assert gate_holds(drive(), PRIOR, known) and covariance_holds(drive(), PRIOR, known)
    assert gate_holds(farther, PRIOR, known) and not covariance_holds(farther, PRIOR, known)    # thrice as far off as it says
    assert not gate_holds(lost, PRIOR, known)                                                   # it believes what is metres off
    assert not gate_holds(drive(fails=1.0), PRIOR, known)                                       # it would believe next to none
    assert not gate_holds(drive(), PRIOR, replace(known, gate=replace(known.gate, accept=0)))   # and what is of no place


@pytest.mark.parametrize(('leaks', 'holds'), [(0, True), (1, True), (3, True), (5, False)])
def test_a_few_images_of_no_place_speak_against_a_gate_by_their_number(known, leaks, holds):
    """Of 36, where one in twenty may leak: three or more are seen in 27 % of such drives, five or more in 3 % (binomial)."""
    trials = World(8, fails=0.0).trials(12)
    negative, surest = [i for i, trial in enumerate(trials) if trial.negative], max(
        (trial for trial in trials if not trial.negative), key=lambda t: known.gate.judge(t.refined, t.T_prior, PRIOR, t.prior_score).score)
    assert len(negative) == 36
    for i in negative[:leaks]:
        trials[i] = replace(trials[i], refined=surest.refined, T_prior=surest.T_prior, prior_score=surest.prior_score)
    assert gate_holds(trials, PRIOR, known) is holds


def test_a_gate_that_holds_stays_where_its_answers_err_by_more_than_the_map_says(known):
    """Refused otherwise: the gate of twelve frames in its place rejected a fifth of what the map had been right about."""
    trials, said = [thrice_as_far(trial) for trial in World(8, fails=0.0).trials(12)], []
    new = calibrate(trials, PRIOR)
    few = RefinerScores(RefinerSpec(new.gate, new.covariance), trials, 0.0, 0.0, 1.0, '')
    spec = with_what_holds({'nre': known}, {'nre': few}, PRIOR, said.append)['nre'].spec
    assert spec.gate == known.gate and 'err by more than it says' in said.pop()
    assert covariance_holds(trials, PRIOR, spec) and not covariance_holds(trials, PRIOR, known)
    for hessian in (1e4 * torch.eye(6).double(), 1e6 * torch.eye(6).double()):
        for score in (0.5, 1.0):
            now, before = (each.covariance.covariance(hessian, PRIOR, score) for each in (spec, known))
            assert torch.linalg.eigvalsh(now - before).min() > -1e-12


def test_a_later_drive_of_few_frames_leaves_what_more_frames_say_and_of_many_does_not(known):
    poorer = replace(known, gate=replace(known.gate, frames=11))
    trials, said = World(8).trials(12), []
    new = calibrate(trials, PRIOR)
    few = RefinerScores(RefinerSpec(new.gate, new.covariance), trials, 0.0, 0.0, 1.0, '')
    many = replace(few, spec=replace(few.spec, gate=replace(new.gate, supported=True)))

    def spec(had, found):
        return with_what_holds({'nre': had}, {'nre': found}, PRIOR, said.append)['nre'].spec
    assert not new.gate.supported and spec(known, few) is known and 'nre: the drive has too few frames' in said.pop()
    assert spec(known, many) is many.spec and spec(poorer, few) is few.spec
    assert with_what_holds({}, {'nre': few}, PRIOR, said.append) == {'nre': few}
