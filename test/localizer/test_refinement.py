"""A localizer with a refiner: what goes into it, what becomes of its word, and the map that carries it."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from nre_fixtures import cloud
from tiny_map import CAMERA, T_MAP_SCENE, tiny_manifest, tiny_models
from torch import nn

from aprloc_ros import localizer as localizer_module
from aprloc_ros.covariance import HessianCovariance
from aprloc_ros.errors import AprlocError
from aprloc_ros.gate import Gate, Risk, SignalScore
from aprloc_ros.geometry import se3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import DescriptorSpec, ModelSpec, RefinerSpec
from aprloc_ros.map_bundle import EXTRACTOR_FILE, POINTS_FILE, MapBundle, load_map, save_map
from aprloc_ros.networks.extractor import build_extractor
from aprloc_ros.refinement.lens_evidence import LensEvidence
from aprloc_ros.refinement.refined import Budget, Refined, Stopwatch, kept
from aprloc_ros.refinement.warp import Warp

EXTRACTOR = ModelSpec('nre', {'width': 0.34, 'coarse_channels': 64, 'fine_channels': 16})
QUERY_CAMERA = CAMERA.resized(128, 96)
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
MOVED = T_MAP_SCENE @ se3_exp(torch.tensor([0.1, 0.0, 0.0, 0.0, 0.02, 0.0], dtype=torch.float64))


def one_signal(centre):
    return SignalScore(('inlier_share',), (centre,), (40.0,), 0.0)


# Accepts above an inlier share of 0.6, keeps the prior above 0.3.
SPEC = RefinerSpec(Gate(one_signal(0.6), one_signal(0.3), 0.5, 0.5, 50, 150, True, kept_risks=(Risk(0.5, 500, 1),)),
                   HessianCovariance(2.0, 3.0, 1.0, 0.0, 0.002, 0.05, 50, 0, True))


def manifest(refiner='nre'):
    return dataclasses.replace(tiny_manifest(), refiner=refiner, refiners={'nre': SPEC},
                               descriptors=DescriptorSpec(EXTRACTOR, QUERY_CAMERA))


class Recorded:
    """A refiner whose answer is given, and who remembers what it was asked."""

    def __init__(self, inlier_share):
        self.inlier_share, self.asked = inlier_share, []
        self.took_ms, self.lens, self.warp, self.is_torn, self.agreement = 0.0, None, None, False, 1.0

    def refine(self, query, starts, budget):
        self.asked.append((query, starts, budget))
        watch = Stopwatch(budget)
        Clock.now_s += 1e-3 * self.took_ms
        if not watch.in_time():
            return kept(starts[0], {'inlier_share': self.inlier_share}, watch)
        if self.inlier_share is None:
            return kept(starts[0], {'inlier_share': 0.0})
        return Refined(MOVED, torch.eye(6, dtype=torch.float64) * 1e4, 2.0, 1.0, 3, 'converged',
                       {'inlier_share': self.inlier_share, 'agreement': self.agreement}, lens=self.lens, warp=self.warp, is_torn=self.is_torn)


class Clock:
    """Of time.perf_counter(): nothing but refiners takes time."""

    now_s = 0.0


class Fixed(nn.Module):
    def forward(self, image):
        return torch.eye(3, 4)[None]


def make(monkeypatch, inlier_share, **arguments):
    refiner = Recorded(inlier_share)
    monkeypatch.setattr(localizer_module, 'make_refiner', lambda name, bundle, device: None if name == 'none' else refiner)
    bundle = MapBundle(manifest(), Fixed(), nn.Identity(), None)
    return Localizer(bundle, 'cpu', **arguments), refiner


@pytest.mark.parametrize(('inlier_share', 'status'), [(0.9, 'refined'), (0.45, 'prior_kept'), (0.1, 'rejected'),
                                                      (None, 'rejected')])
def test_the_gate_decides_which_pose_is_reported(monkeypatch, inlier_share, status):
    localizer, _ = make(monkeypatch, inlier_share)
    estimate = localizer.localize(IMAGE)
    assert estimate.status == status and 0 <= estimate.score <= 1
    expected = MOVED if status == 'refined' else T_MAP_SCENE
    torch.testing.assert_close(estimate.T_map_cam, expected)
    torch.testing.assert_close(estimate.T_prior, T_MAP_SCENE)
    prior = tiny_manifest().covariance
    if status == 'refined':
        torch.testing.assert_close(estimate.covariance, SPEC.covariance.covariance(1e4 * torch.eye(6).double(), prior,
                                                                                   estimate.score))
        assert (torch.diagonal(estimate.covariance) < torch.diagonal(prior)).all()
    else:
        torch.testing.assert_close(estimate.covariance, prior)
    laps = estimate.timings_ms
    assert laps['total'] == pytest.approx(laps['prepare'] + laps['regress'] + laps['refine']) and laps['refine'] > 0


def test_no_first_pose_passes_without_evidence_for_such_poses(monkeypatch):
    """One wrong in 500: at most 1 % with 96 %, at most 0.2 % with 26 %."""
    for share, status in ((0.01, 'prior_kept'), (0.002, 'rejected')):
        estimate = make(monkeypatch, 0.45, max_wrong_share=share)[0].localize(IMAGE)
        assert estimate.status == status and estimate.reason == ('unsure' if status == 'rejected' else '')


def test_the_refiner_sees_the_descriptors_camera_and_the_starts_before_the_prior(monkeypatch):
    localizer, refiner = make(monkeypatch, 0.9, budget=Budget(7, 123.0))
    tracked = se3_exp(torch.ones(2, 6, dtype=torch.float64))
    localizer.localize(IMAGE, starts=tracked)
    query, starts, budget = refiner.asked[0]
    assert query.camera == QUERY_CAMERA and query.image.shape == (3, 96, 128) and budget == Budget(7, 123.0)
    torch.testing.assert_close(starts, torch.cat([tracked, T_MAP_SCENE[None]]))
    localizer.localize(IMAGE)
    torch.testing.assert_close(refiner.asked[1][1], T_MAP_SCENE[None])


def test_none_is_the_regressor_alone(monkeypatch):
    localizer, refiner = make(monkeypatch, 0.9, refiner='none')
    estimate = localizer.localize(IMAGE)
    assert estimate.status == 'prior' and not refiner.asked and estimate.refined is None


def hurried(monkeypatch, deadline_ms):
    """A warmed-up localizer whose refiner takes 60 ms and its quick one 30."""
    monkeypatch.setattr('time.perf_counter', lambda: Clock.now_s)
    refiners = {'nre': Recorded(0.9), 'nre_quick': Recorded(0.9)}
    refiners['nre'].took_ms, refiners['nre_quick'].took_ms = 60.0, 30.0
    monkeypatch.setattr(localizer_module, 'make_refiner', lambda name, bundle, device: refiners[name])
    own = dataclasses.replace(manifest(), refiners={'nre': SPEC, 'nre_quick': SPEC})
    localizer = Localizer(MapBundle(own, Fixed(), tiny_models()[1], None), 'cpu', budget=Budget(milliseconds=deadline_ms))
    usual_ms = localizer.warm_up()
    assert {effort.refiner: round(ms) for effort, ms in usual_ms.items()} == {'nre': 60, 'nre_quick': 30}
    return localizer, refiners


@pytest.mark.parametrize(('deadline_ms', 'refiner', 'status'), [
    (100.0, 'nre', 'refined'), (45.0, 'nre_quick', 'refined'), (20.0, 'nre_quick', 'rejected')])
def test_what_can_be_done_in_time_is_asked_and_what_is_late_is_no_answer(monkeypatch, deadline_ms, refiner, status):
    localizer, _ = hurried(monkeypatch, deadline_ms)
    estimate = localizer.localize(IMAGE)
    assert (estimate.refiner, estimate.status) == (refiner, status)
    if status == 'rejected':
        assert estimate.reason == 'out of time'
        assert estimate.text == 'after 30 ms: raise refine_ms, or a faster device'
        torch.testing.assert_close(estimate.T_map_cam, T_MAP_SCENE)


def test_a_machine_that_becomes_slow_costs_one_frame(monkeypatch):
    localizer, refiners = hurried(monkeypatch, 100.0)
    refiners['nre'].took_ms, refiners['nre_quick'].took_ms = 150.0, 75.0
    found = [localizer.localize(IMAGE) for _ in range(5)]
    assert [estimate.status for estimate in found] == ['rejected', *['refined'] * 4]
    assert {estimate.refiner for estimate in found[1:]} == {'nre_quick'}


def test_without_a_deadline_nothing_is_late(monkeypatch):
    localizer, refiner = make(monkeypatch, 0.9)
    refiner.took_ms = 1e6
    assert localizer.localize(IMAGE).status == 'refined' and localizer.refiner_name == 'nre'


def test_an_answer_that_iterations_cut_short_is_none(saved):
    estimate = Localizer(load_map(saved[0], 'cpu'), 'cpu', budget=Budget(0)).localize(IMAGE)
    assert (estimate.status, estimate.reason) == ('rejected', 'out of iterations') and 'refine_iterations' in estimate.text


def evidence(focal):
    return LensEvidence(torch.tensor([focal, 0.0, 0.0], dtype=torch.float64), 1e6 * torch.eye(3, dtype=torch.float64),
                        torch.ones(6, 3, dtype=torch.float64))


def test_a_camera_that_the_images_contradict_is_refused_with_both_numbers(monkeypatch):
    localizer, refiner = make(monkeypatch, 0.9)
    refiner.lens = evidence(0.1)
    estimate = localizer.localize(IMAGE, dataclasses.replace(QUERY_CAMERA, fx=108.0, fy=108.0))
    assert (estimate.status, estimate.reason) == ('rejected', 'camera_info')
    assert 'the images say f 119' in estimate.text and 'declared is f 108' in estimate.text
    refiner.lens = evidence(0.0)
    assert localizer.localize(IMAGE, QUERY_CAMERA).status == 'refined'


def test_where_another_place_looks_the_same_only_an_answer_that_was_expected_counts(monkeypatch):
    localizer, refiner = make(monkeypatch, 0.9)
    refiner.agreement = 0.02
    estimate = localizer.localize(IMAGE)
    assert (estimate.status, estimate.reason) == ('rejected', 'alike') and 'looks the same' in estimate.text
    assert localizer.localize(IMAGE, starts=MOVED[None]).status == 'refined'
    refiner.agreement = 0.1
    assert localizer.localize(IMAGE).status == 'refined'


def test_a_warped_image_is_refused_or_less_certain_and_says_nothing_of_its_camera(monkeypatch):
    def estimate(sheared):
        localizer, refiner = make(monkeypatch, 0.9)
        refiner.lens = evidence(0.1 if sheared > 0.1 else 0.0)
        refiner.warp = Warp(torch.tensor([0.0, sheared, 0.0, 0.0]).double(), torch.eye(4).double() / 0.003 ** 2, torch.ones(6, 4).double())
        return localizer.localize(IMAGE), localizer

    (right, _), (little, _), (much, localizer) = (estimate(sheared) for sheared in (0.0, 0.05, 0.2))
    assert right.status == little.status == 'refined' and little.covariance.trace() > right.covariance.trace() + 0.05 ** 2
    assert (much.status, much.reason) == ('rejected', 'warped') and 'sheared' in much.text and '0.20' in much.text
    assert localizer._watch(localizer._source(IMAGE, None)).verdict().probability < 0.5


def test_a_torn_image_is_refused_and_says_nothing_of_its_camera(monkeypatch):
    localizer, refiner = make(monkeypatch, 0.9)
    refiner.is_torn, refiner.lens = True, evidence(0.1)
    estimate = localizer.localize(IMAGE)
    assert (estimate.status, estimate.reason) == ('rejected', 'warped') and 'torn' in estimate.text
    assert localizer._watch(localizer._source(IMAGE, None)).verdict().probability < 0.5


@pytest.mark.parametrize('focal', [-1.5, float('nan')])
def test_evidence_of_a_camera_that_cannot_be_is_left_aside(monkeypatch, focal):
    localizer, refiner = make(monkeypatch, 0.9)
    refiner.lens = evidence(focal)
    assert localizer.localize(IMAGE, QUERY_CAMERA).status == 'refined'


def test_another_camera_than_the_maps_is_less_certain_until_images_have_told(monkeypatch):
    localizer, refiner = make(monkeypatch, 0.9)
    refiner.lens = evidence(0.0)
    own, other = (localizer.localize(IMAGE, camera).covariance.trace() for camera in (
        QUERY_CAMERA, dataclasses.replace(QUERY_CAMERA, fx=1.1 * QUERY_CAMERA.fx)))
    assert own < other
    for _ in range(100):
        later = localizer.localize(IMAGE, dataclasses.replace(QUERY_CAMERA, fx=1.1 * QUERY_CAMERA.fx)).covariance.trace()
    assert later < other


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp('maps') / 'tiny'
    extractor = build_extractor(EXTRACTOR.kind, EXTRACTOR.arguments)
    return save_map(directory, manifest(), *tiny_models(), extractor, cloud(50)), extractor


def test_a_map_carries_its_descriptors_points_and_calibration(saved):
    directory, extractor = saved
    bundle = load_map(directory, 'cpu')
    for name, value in extractor.state_dict().items():
        torch.testing.assert_close(bundle.extractor.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert len(bundle.points) == 50 and bundle.manifest.refiner == 'nre' and bundle.manifest.refiners['nre'] == SPEC
    assert bundle.manifest.descriptors.camera == QUERY_CAMERA
    assert bundle.size_bytes == sum(file.stat().st_size for file in directory.iterdir())
    estimate = Localizer(bundle, 'cpu').localize(IMAGE)
    assert estimate.status in ('refined', 'prior_kept', 'rejected') and estimate.refined is not None


@pytest.mark.parametrize('name', [EXTRACTOR_FILE, POINTS_FILE])
def test_damaged_descriptors_are_refused(saved, tmp_path, name):
    copy = tmp_path / 'tiny'
    shutil.copytree(saved[0], copy)
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(AprlocError, match=f'{name}: damaged or not of this map'):
        load_map(copy, 'cpu')


def test_a_refiner_that_is_unknown_or_that_the_map_lacks_is_refused(saved):
    bundle = load_map(saved[0], 'cpu')
    with pytest.raises(AprlocError, match="'magic' is not one of none, nre"):
        Localizer(bundle, 'cpu', 'magic')
    without = MapBundle(tiny_manifest(), bundle.regressor, bundle.field, saved[0])
    with pytest.raises(AprlocError, match='has no descriptors, which the refiner nre needs'):
        Localizer(without, 'cpu', 'nre')


def test_a_manifests_own_refiner_is_one_it_has():
    with pytest.raises(AprlocError, match="refiner is 'align'"):
        manifest('align')
