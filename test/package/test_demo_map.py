"""The map that is shipped, on photographs of its place that trained nothing."""

import itertools
import re
from dataclasses import replace
from types import SimpleNamespace

import cv2
import pytest
import torch
from court_fixtures import held_out_drive
from repository import ROOT
from torch.nn import functional as F

from aprloc_ros.covariance import residuals
from aprloc_ros.fields.views import render_features
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.bag_images import BagImage
from aprloc_ros.refinement.refined import make_query
from aprloc_ros.refiners import fine_features, query_camera
from aprloc_ros.scoring.replay import ANSWERED, Robot, replay
from aprloc_ros.training.calibration.questions import Questions
from aprloc_ros.training.calibration.refiner_calibration import calibrate_refiner
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.place.capture import CAMERA

HERE, ELSEWHERE = (0, 1, 2), tuple(range(90, 100))   # frames of the held-out drive, ten a second


@pytest.fixture(scope='module')
def bundle():
    return load_map(ROOT / 'maps/demo', 'cpu')


@pytest.fixture(scope='module')
def photographs():
    """(image [H, W, 3] uint8, T_map_cam [4, 4]) of a robot that is carried away in the middle of its drive."""
    return list(zip(*held_out_drive((*HERE, *ELSEWHERE))))


def test_the_field_renders_the_features_that_the_extractor_sees(bundle, photographs):
    """Refiners that follow rendered features once followed a fusion network that had learnt nothing: a cosine of -0.1."""
    for image, T_map_cam in photographs[::5]:
        query = make_query(image, CAMERA, bundle.manifest.descriptors.camera)
        with torch.inference_mode():
            seen = fine_features(bundle.extractor)(query.image[None])[0][0]
            camera = query.camera.resized(seen.shape[2], seen.shape[1])
            rendered = render_features(bundle.field, bundle.manifest.scene, camera, T_map_cam, query.histogram).features
        assert F.cosine_similarity(rendered, seen, dim=0).mean() > 0.5


def as_message(image):
    height, width = image.shape[:2]
    return SimpleNamespace(width=width, height=height, encoding='rgb8', step=3 * width, is_bigendian=0, data=image.tobytes())


def test_a_kidnapped_robot_is_silent_until_it_is_found_and_never_wrong(bundle, photographs):
    images = [BagImage(i, i * 10**8, 10**12 + i * 10**8, 'cam', as_message(image), None, False)
              for i, (image, _) in enumerate(photographs)]
    localizer = Localizer(bundle, 'cpu')
    frames = list(replay(images, localizer, Robot()))
    carried_off = len(HERE)
    assert [frame.outcome for frame in frames[:carried_off]] == [ANSWERED] * carried_off
    assert frames[carried_off].reason == 'jump'
    found = next(i for i in range(carried_off, len(frames)) if frames[i].outcome == ANSWERED)
    assert found - carried_off <= 7 and all(frame.outcome == ANSWERED for frame in frames[found:])
    for frame in frames:
        if frame.outcome == ANSWERED:
            xi = residuals(frame.estimate.T_map_cam[None], photographs[frame.index][1][None])[0]
            assert (xi.abs() <= 3 * frame.estimate.covariance.diagonal().sqrt()).all()


@pytest.mark.parametrize('change', [{'fx': 0.9 * CAMERA.fx, 'fy': 0.9 * CAMERA.fy}, {'cx': CAMERA.cx + 10}, {}])
def test_another_mode_of_the_camera_is_noticed_and_the_right_one_never(bundle, photographs, change):
    localizer = Localizer(bundle, 'cpu')
    found = [localizer.localize(image, replace(CAMERA, **change)) for image, _ in photographs]
    refused = [estimate.reason == 'camera_info' for estimate in found]
    assert all(refused[2:]) if change else not any(refused)
    if change:
        said = [float(number) for number in re.findall(r'\d+', found[-1].text)[:3]]
        assert said == pytest.approx([CAMERA.fx, CAMERA.cx, CAMERA.cy], abs=0.04 * CAMERA.fx)


def test_the_quick_refiner_is_right_too(bundle, photographs):
    localizer = Localizer(bundle, 'cpu', 'nre_quick')
    found = [(localizer.localize(image, CAMERA), T) for image, T in photographs]
    answered = [(estimate, T) for estimate, T in found if estimate.status == 'refined']
    assert len(answered) >= len(found) - 1
    for estimate, T in answered:
        xi = residuals(estimate.T_map_cam[None], T[None])[0]
        assert xi @ torch.linalg.solve(estimate.covariance, xi) < 40


def test_a_busy_machine_does_not_teach_a_map_to_distrust_its_refiner(bundle, photographs, monkeypatch, tmp_path):
    """A clock that moves 10 s at each look, past any budget."""
    frames = []
    for index, (image, T) in enumerate(photographs):
        path = tmp_path / f'{index}.png'
        assert cv2.imwrite(str(path), image[..., ::-1])
        frames.append(Frame(path.name, path, T, CAMERA))
    ticks = itertools.count()
    monkeypatch.setattr('aprloc_ros.refinement.refined.time.perf_counter', lambda: 10.0 * next(ticks))
    found = calibrate_refiner(bundle, 'nre', Questions.of_whole_map(tuple(frames), query_camera(bundle.manifest)), 0, 'cpu')
    assert found.refined_share > 0.7 and found.median_m < 0.05
