"""What an image says of its camera, on scenes that a camera is known to have seen, and what a run of them is worth."""

from dataclasses import replace

import pytest
import torch
from nre_fixtures import CAMERA, NO_START, Painter, cloud, query, truth

from aprloc_ros.camera import is_same_view
from aprloc_ros.geometry import invert, se3_log
from aprloc_ros.lens_watch import LensWatch
from aprloc_ros.refinement import feature_metric, lens_evidence
from aprloc_ros.refinement.lens_evidence import BIAS, LensEvidence, _Pace, offset_camera
from aprloc_ros.refinement.points import nre
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.refinement.refined import Budget

NOTHING = (0.0, 0.0, 0.0)
DECLARED = replace(CAMERA, fy=CAMERA.fx)   # with one focal length, as the offsets have


def seen_by(offsets, seed=2, usual_doubt=0.0):
    """The refiner's answer where a camera that is so far from the declared one took the image, and the true pose."""
    points, T = cloud(1500), truth(seed)
    painter = Painter(points, T, noise=0.02, camera=offset_camera(DECLARED, torch.tensor(offsets)))
    asked = replace(query(), camera=DECLARED, usual_doubt=usual_doubt)
    return NreRefiner(painter, points).refine(asked, NO_START, Budget()), T


@pytest.mark.parametrize('offsets', [(0.0, 0.0, 0.0), (0.02, 0.0, 0.0), (-0.04, 0.0, 0.0), (0.0, 0.03, -0.02)])
def test_the_camera_that_took_an_image_is_found(offsets):
    found, _ = seen_by(offsets)
    torch.testing.assert_close(found.lens.offsets, torch.tensor(offsets, dtype=torch.float64), atol=4e-3, rtol=0)
    assert (torch.linalg.eigvalsh(found.lens.information) > 0).all()


def test_matches_lead_to_a_camera_that_is_far_off_where_features_alone_end_elsewhere(monkeypatch):
    offsets = torch.tensor([0.45, 0.0, 0.0]).double()
    found = torch.stack([seen_by(offsets.tolist(), seed)[0].lens.offsets for seed in range(4)])
    torch.testing.assert_close(found.median(0).values, offsets, atol=4e-3, rtol=0)
    monkeypatch.setattr(nre, 'guess_lens', lambda *_: None)
    assert (seen_by(offsets.tolist())[0].lens.offsets - offsets).abs().max() > 0.03


@pytest.mark.parametrize('noise', [1e-4, 3e-3])
@pytest.mark.parametrize('offset, against', [(2.4, False), (2.5, True)])   # chi-square's 6 is 2.449 standard deviations
def test_a_word_speaks_against_a_camera_beyond_its_noise_and_its_bias(noise, offset, against):
    total = (noise ** 2 + BIAS ** 2) ** 0.5
    said = torch.tensor([0.0, offset * total, 0.0], dtype=torch.float64)
    assert LensEvidence(said, torch.eye(3).double() / noise ** 2, torch.ones(6, 3).double()).speaks_against is against


def test_a_word_that_is_not_finite_speaks_against_nothing():
    nothing = torch.full((3,), torch.nan).double()
    assert not LensEvidence(nothing, torch.full((3, 3), torch.nan).double(), torch.ones(6, 3).double()).speaks_against


def test_no_more_doubt_than_usual_is_passed_over_and_the_pose_stays():
    (closely, _), (rough, _) = (seen_by((0.02, 0.0, 0.0), usual_doubt=usual) for usual in (0.0, 1e9))
    assert closely.lens.is_usable and rough.lens.passed_over and not rough.lens.is_usable
    assert rough.lens.first_doubt == closely.lens.first_doubt > 6
    torch.testing.assert_close(rough.T_map_cam, closely.T_map_cam, rtol=0, atol=0)
    assert not seen_by((0.02, 0.0, 0.0), usual_doubt=closely.lens.first_doubt)[0].lens.passed_over


def test_steps_that_shrink_by_one_share_go_on_to_where_they_end():
    """x + (1 - share) (end - x) is a search whose end is known: three steps reach it, at any share."""
    end, start = torch.arange(1.0, 10.0).double(), torch.zeros(9).double()
    for share in (0.2, 0.5, 0.75):
        x, pace, steps = start, _Pace(), []
        for _ in range(3):
            steps.append((1 - share) * (end - x))
            x = x + pace.next(steps[-1])
        torch.testing.assert_close(x, end)


def test_steps_that_shrink_by_two_shares_go_on_to_where_they_end():
    """By a matrix that is symmetric on the offsets, with shares of 0.3 and 0.7 left; plain steps have come 0.7^5 of the way."""
    end, M = torch.zeros(9).double(), torch.eye(9).double()
    M[6:, 6:] = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.5, 0.0], [0.0, 0.0, 0.7]])   # of the way is made
    x, pace = torch.tensor([0.0] * 6 + [1.0, -3.0, 0.0]).double(), _Pace()
    for _ in range(5):
        x = x + pace.next(M @ (end - x))
    assert x.norm() < 0.05 * 3.2 * 0.7 ** 5


def test_a_step_that_is_not_finite_stays_so_and_ends_the_search_elsewhere():
    assert _Pace(torch.ones(9).double()).next(torch.full((9,), torch.nan).double()).isnan().all()


def test_no_step_goes_farther_than_five_times_what_is_asked_for():
    pace = _Pace(torch.eye(9).double()[6])
    assert pace.next(0.99 * torch.eye(9).double()[6]).norm() <= (1 + 5) * 0.99 + 1e-9


def test_a_step_to_what_can_be_no_camera_is_not_taken(monkeypatch):
    """A first step beyond a focal length of zero, as few and odd matches ask for: no search, and no use of what it says."""
    linearised, steps = lens_evidence.first_step, []

    def astray(*arguments):
        found = linearised(*arguments)
        steps.append(found)
        step = torch.cat([torch.zeros(6), torch.tensor([-1.3, 0.0, 0.0])]).to(found.step)
        return replace(found, step=step, offsets=step[6:], information=1e6 * torch.eye(3, dtype=torch.float64))
    for module in (feature_metric, lens_evidence):
        monkeypatch.setattr(module, 'first_step', astray)
    monkeypatch.setattr(nre, 'guess_lens', lambda *_: None)
    found, T = seen_by(NOTHING)
    assert len(steps) == 1 and not found.lens.is_usable
    assert (found.T_map_cam - T).abs().max() < 0.05


@pytest.mark.parametrize('offsets', [(0.01, 0.0, 0.0), (0.0, 0.01, 0.0), (0.0, 0.0, -0.01)])
def test_the_pose_moves_with_the_offsets_as_told(offsets):
    (right, _), (wrong, _) = seen_by((0.0, 0.0, 0.0)), seen_by(offsets)
    moved = se3_log(invert(wrong.T_map_cam) @ right.T_map_cam)
    told = wrong.lens.shift @ torch.tensor(offsets, dtype=torch.float64)
    assert (moved - told).norm() < 0.35 * told.norm() and told.norm() > 3e-3


def word(offsets, noise, generator):
    """Of an image whose evidence has that standard deviation."""
    seen = torch.tensor(offsets, dtype=torch.float64) + noise * torch.randn(3, dtype=torch.float64, generator=generator)
    return LensEvidence(seen, torch.eye(3, dtype=torch.float64) / noise ** 2, torch.ones(6, 3, dtype=torch.float64))


@pytest.mark.parametrize('own', [True, False])
def test_a_right_camera_is_never_refused(own):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        watch = LensWatch(own)
        assert not any(watch.note(word(NOTHING, 2e-3, generator), 1.2).wrong for _ in range(500))


@pytest.mark.parametrize('own', [True, False])
@pytest.mark.parametrize('offsets', [(0.02, 0.0, 0.0), (-0.1, 0.0, 0.0), (0.0, 0.04, 0.0), (0.0, 0.0, -0.03)])
def test_another_mode_is_refused_within_ten_images_and_named(own, offsets):
    generator, watch = torch.Generator().manual_seed(1), LensWatch(own)
    verdicts = [watch.note(word(offsets, 2e-3, generator), 1.2) for _ in range(50)]
    assert all(verdict.wrong for verdict in verdicts[10:])
    torch.testing.assert_close(verdicts[-1].offsets, torch.tensor(offsets, dtype=torch.float64), atol=2e-3, rtol=0)


def test_a_mode_that_changes_on_the_way_is_noticed_and_so_is_its_return():
    generator, watch = torch.Generator().manual_seed(2), LensWatch(True)
    for _ in range(300):
        watch.note(word(NOTHING, 2e-3, generator), 1.2)
    assert [watch.note(word((0.05, 0.0, 0.0), 2e-3, generator), 1.2).wrong for _ in range(60)][-1]
    assert not [watch.note(word(NOTHING, 2e-3, generator), 1.2).wrong for _ in range(400)][-1]


def with_doubts(watch, offsets, doubts):
    generator = torch.Generator().manual_seed(6)
    for doubt in doubts:
        watch.note(replace(word(offsets, 2e-3, generator), first_doubt=doubt), 1.2)
    return watch.usual_doubt


def test_what_doubt_is_usual_is_known_of_a_right_camera_after_twenty_images_and_stays():
    """All but five of the twenty have less than 16 of it."""
    watch = LensWatch(True)
    assert with_doubts(watch, NOTHING, range(1, 20)) == 0
    assert with_doubts(watch, NOTHING, [300.0]) == 16
    assert with_doubts(watch, NOTHING, [25.0] * 50) == 16   # or it would rise with a lens that drifts
    watch.note(replace(word(NOTHING, 2e-3, torch.Generator()), passed_over=True), 1.2)
    assert watch.usual_doubt == 0   # of the next image
    assert with_doubts(watch, NOTHING, [1.0]) == 16


@pytest.mark.parametrize('offsets', [(0.01, 0.0, 0.0), (0.0, 0.03, 0.0)])
def test_no_doubt_is_usual_of_a_camera_that_may_be_wrong(offsets):
    assert with_doubts(LensWatch(True), offsets, [20.0] * 100) == 0


def test_no_doubt_is_usual_any_more_once_the_mode_has_changed():
    watch = LensWatch(True)
    assert with_doubts(watch, NOTHING, [7.0] * 60) == 7
    assert with_doubts(watch, (0.03, 0.0, 0.0), [50.0] * 30) == 0


@pytest.mark.parametrize('focal', [0.012, 0.02, 0.05])   # of 3.4e-3 that an image may be off by
def test_an_image_after_a_change_of_mode_is_covered_or_not_believed(focal):
    """A hundred images say that the camera is right; then it zooms, and the declared one stays as it is."""
    watch, shift = LensWatch(True), torch.eye(6, 3, dtype=torch.float64)
    for _ in range(100):
        watch.note(word(NOTHING, 2e-3, torch.Generator().manual_seed(7)), 1.2)
    xi = shift @ torch.tensor([focal, 0.0, 0.0], dtype=torch.float64)
    verdict = watch.note(word((focal, 0.0, 0.0), 2e-3, torch.Generator().manual_seed(8)), 1.2)
    covariance = verdict.widened(1e-6 * torch.eye(6, dtype=torch.float64), shift)
    assert verdict.alone or xi @ torch.linalg.solve(covariance, xi) < 25


def test_a_camera_that_is_far_off_is_refused_by_single_images():
    assert LensWatch(False).note(word((-0.22, 0.0, 0.0), 0.02, torch.Generator().manual_seed(9)), 1.0).wrong


def test_what_is_not_excluded_widens_the_covariance_less_and_less():
    generator = torch.Generator().manual_seed(3)
    covariance, shift = 1e-6 * torch.eye(6, dtype=torch.float64), torch.ones(6, 3, dtype=torch.float64)
    own, other = LensWatch(True), LensWatch(False)
    widened = [watch.note(word(NOTHING, 2e-3, generator), 1.0).widened(covariance, shift) for watch in (own, other)]
    assert (torch.linalg.eigvalsh(widened[1] - covariance) > 0).all()
    assert covariance.trace() < widened[0].trace() < widened[1].trace() / 2
    for _ in range(200):
        verdict = other.note(word(NOTHING, 2e-3, generator), 1.0)
    assert verdict.widened(covariance, shift).trace() < widened[1].trace()


def test_a_doubtful_camera_is_covered():
    """Two per cent off, not yet sure of it: the covariance admits where the pose really is."""
    verdict = LensWatch(False).note(word((0.02, 0.0, 0.0), 6e-3, torch.Generator().manual_seed(4)), 1.0)
    shift = torch.eye(6, 3, dtype=torch.float64)
    xi = shift @ torch.tensor([0.02, 0.0, 0.0], dtype=torch.float64)
    covariance = verdict.widened(1e-6 * torch.eye(6, dtype=torch.float64), shift)
    assert not verdict.wrong and xi @ torch.linalg.solve(covariance, xi) < 25


def test_cameras_are_the_same_at_any_size():
    assert is_same_view(CAMERA.resized(641, 480), CAMERA)
    assert not is_same_view(replace(CAMERA, fx=1.01 * CAMERA.fx), CAMERA)
    assert not is_same_view(replace(CAMERA, cx=CAMERA.cx + 2), CAMERA)
