"""What contradicts itself stops a build before anything is made of it: lenses, depth images, poses."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from agreement_fixtures import COUNT, with_depths

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.lens import Lens
from aprloc_ros.training import foundation
from aprloc_ros.training.checks.agreement import Agreement
from aprloc_ros.training.checks.contradictions import CONTRADICTIONS, with_poses
from aprloc_ros.training.checks.depth_unit import depth_factor
from aprloc_ros.training.checks.speed import too_fast
from aprloc_ros.training.datasets.capture import Capture, SparsePoints
from aprloc_ros.training.foundation import Foundation, find_foundation
from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.structure.lens import check_lens
from aprloc_ros.training.structure.triangulation import Structure, TooFewPoints

DECLARED = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)


def lens(factor: float) -> Lens:
    return Lens(DECLARED, replace(DECLARED, fx=factor * DECLARED.fx, fy=factor * DECLARED.fy))


@pytest.fixture(scope='module')
def frames(walked):
    return walked


@pytest.fixture(scope='module')
def points(frames) -> SparsePoints:
    """On the ray casted surfaces: 30 pixels of every frame, each seen by it alone."""
    random, xyz, observations = np.random.default_rng(0), [], []
    from aprloc_ros.training.structure.depths import read_depth
    for index, frame in enumerate(frames):
        depth_m = read_depth(frame) * frame.depth_unit_m
        v, u = (axis[chosen] for chosen in [random.permutation((depth_m > 0).sum())[:30]] for axis in np.nonzero(depth_m))
        cam = frame.camera.directions().double()[v, u] * torch.from_numpy(depth_m[v, u, None])
        observations += [(index, len(xyz) * 30 + i) for i in range(30)]
        xyz.append(cam @ frame.T_map_cam[:3, :3].T + frame.T_map_cam[:3, 3])
    noise = 1 + 0.01 * torch.randn(len(observations), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return SparsePoints(torch.cat(xyz) * noise, torch.tensor(observations))


def test_a_lens_near_the_declared_one_needs_no_evidence():
    assert check_lens(lens(1.02), False, 100, 60) == ''


def test_a_lens_far_from_the_declared_one_needs_verified_poses_and_points():
    assert check_lens(lens(1.1), True, 900, 1500) == ''
    assert 'could not be verified' in check_lens(lens(1.1), False, 900, 1500)
    assert 'only 300 points' in check_lens(lens(1.1), True, 200, 300)
    assert 'fewer points' in check_lens(lens(1.1), True, 900, 800)


def test_a_lens_that_cannot_be_is_refused_unless_everything_speaks_for_it():
    assert check_lens(lens(1.3), True, 900, 1500) == ''
    with pytest.raises(AprlocError, match=r'73 pixels from the declared one \(f 682 682, declared 525 525\).*verified'):
        check_lens(lens(1.3), False, 900, 1500)
    with pytest.raises(AprlocError, match='only 300 points'):
        check_lens(lens(0.7), True, 100, 300)


@pytest.mark.parametrize(('made', 'unit_m'), [(1000, '1 mm'), (1, '1 m'), (10_000, '0.1 mm'), (100, '1 cm')])
def test_another_unit_of_depth_is_found_and_said_once(frames, points, tmp_path, made, unit_m):
    """All are declared to hold 5000 units a metre."""
    kind = np.float32 if made == 1 else np.uint16
    other = with_depths(frames, tmp_path / 'depth', lambda depth_m, frame: np.where(made * depth_m < 65535, made * depth_m, 0).astype(kind))
    said = []
    factor = depth_factor(tuple(replace(f, depth_unit_m=1 / 5000) for f in other), points, said.append)
    assert factor == pytest.approx(5000 / made)
    assert len(said) == 1 and f'is {unit_m}, not 0.0002 m as declared' in said[0]


@pytest.mark.parametrize('size', [(160, 120), (256, 192)])
def test_depth_images_of_another_size_are_read_where_the_points_are(frames, points, tmp_path, size):
    other = with_depths(frames, tmp_path / 'depth', lambda depth_m, frame: cv2.resize(
        (1000 * depth_m).astype(np.uint16), size, interpolation=cv2.INTER_NEAREST))
    said = []
    assert depth_factor(other, points, said.append) == 1.0 and 'as declared' in said[0]


def test_holes_and_a_short_range_are_no_contradiction(frames, points, tmp_path):
    hidden = np.random.default_rng(1).random((CAMERA.height, CAMERA.width)) < 0.4
    other = with_depths(frames, tmp_path / 'depth', lambda depth_m, frame: np.where(
        hidden | (depth_m > 6), 0, 1000 * depth_m).astype(np.uint16))
    said = []
    assert depth_factor(other, points, said.append) == 1.0 and 'as declared' in said[0]


@pytest.mark.parametrize(('change', 'words'), [
    (lambda depth_m: np.roll(depth_m, 19, 1), 'moved by -6 % of their width and 0 % of their height'),
    (lambda depth_m: depth_m[:, ::-1], 'mirrored'), (lambda depth_m: depth_m[::-1, ::-1], 'turned by a half'),
    (lambda depth_m: cv2.warpAffine(depth_m, np.float32([[0.9, 0, 16], [0, 0.9, 12]]), (320, 240), flags=cv2.INTER_NEAREST),
     'magnified by 1.11')])
def test_depth_images_that_are_not_registered_are_told_how_they_lie(frames, points, tmp_path, change, words):
    other = with_depths(frames, tmp_path / 'depth', lambda depth_m, frame: (1000 * change(depth_m)).astype(np.uint16))
    with pytest.raises(AprlocError, match=f'do not lie on the colour images.*{words}'):
        depth_factor(other, points, print)


def test_depth_images_of_the_next_image_are_told(frames, points):
    late = tuple(replace(frame, depth_path=after.depth_path) for frame, after in zip(frames, (*frames[1:], frames[-1])))
    with pytest.raises(AprlocError, match='if each is of the image after it'):
        depth_factor(late, points, print)


@pytest.mark.parametrize('scales', [[1000, 5000], np.linspace(400, 1500, 7)])
def test_depth_images_of_several_scales_are_refused(frames, points, tmp_path, scales):
    """Of two sensors, or relative ones."""
    other = with_depths(frames, tmp_path / 'depth', lambda depth_m, frame: (
        depth_m * scales[int(frame.image_path.stem) % len(scales)]).clip(0, 65534).astype(np.uint16))
    with pytest.raises(AprlocError, match='differ in scale from one to the next'):
        depth_factor(other, points, print)


def test_positions_in_millimetres_are_told_by_the_speed_of_the_camera(frames):
    """They fit the images as well as metres. The walk is 0.2 s from image to image."""
    assert too_fast(frames) == '' and too_fast(tuple(replace(frame, stamp_s=None) for frame in frames)) == ''
    scaled = tuple(replace(frame, T_map_cam=frame.T_map_cam * torch.tensor([1, 1, 1, 1000.0])) for frame in frames)
    steps_m = np.linalg.norm(np.diff([frame.T_map_cam[:3, 3].numpy() for frame in frames], axis=0), axis=1)
    assert f'goes {1000 * np.median(steps_m) / 0.2:.0f} m/s' in too_fast(scaled)


def test_positions_in_millimetres_are_told_from_depths_in_another_unit(frames, points):
    T = torch.eye(4, dtype=torch.float64).expand(len(frames), 4, 4).clone()
    for each, frame in zip(T, frames):
        each[:] = frame.T_map_cam
        each[:3, 3] *= 1000
    in_mm = tuple(replace(frame, T_map_cam=each) for frame, each in zip(frames, T))
    with pytest.raises(AprlocError, match='the positions look like millimetres'):
        depth_factor(in_mm, SparsePoints(1000 * points.xyz, points.observations), print)


def test_a_right_unit_stays(frames, points):
    said = []
    assert depth_factor(frames, points, said.append) == 1.0
    assert 'as declared' in said[0] and 'WARNING' not in said[0]


@pytest.mark.parametrize(('change', 'words'), [
    (lambda depth_m, frame: (3.7 * 1000 * depth_m).clip(0, 65534).astype(np.uint16), '3.7 times the depths'),
    (lambda depth_m, frame: np.where(depth_m > 0, 5000 / depth_m.clip(0.1), 0).clip(0, 65534).astype(np.uint16), 'disparities'),
    (lambda depth_m, frame: (1000 * depth_m * frame.camera.directions().norm(dim=-1).numpy()).astype(np.uint16), 'along'),
    (lambda depth_m, frame: np.random.default_rng(0).integers(200, 60_000, depth_m.shape).astype(np.uint16), 'do not fit')])
def test_depth_images_that_fit_in_no_unit_are_refused(frames, points, tmp_path, change, words):
    other = with_depths(frames, tmp_path / 'depth', change)
    with pytest.raises(AprlocError, match=words) as caught:
        depth_factor(other, points, print)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('top', 'kind', 'read', 'words'), [
    (255, np.uint8, lambda depth_m: depth_m, 'depths'), (65534, np.uint16, lambda depth_m: depth_m, 'depths'),
    (255, np.uint8, lambda depth_m: 1 / depth_m, 'disparities')])
def test_depth_images_that_were_stretched_one_by_one_have_no_unit(frames, points, tmp_path, top, kind, read, words):
    """As for a picture: what is known from 0 to the top."""
    def stretched(depth_m, frame):
        known, value = depth_m > 0, read(depth_m.clip(0.1))
        low, high = value[known].min(), value[known].max()
        return np.where(known, top * (value - low) / (high - low), 0).astype(kind)
    other = with_depths(frames, tmp_path / 'depth', stretched)
    with pytest.raises(AprlocError, match=f'hold {words} that were stretched in each image by itself.* they have no unit'):
        depth_factor(other, points, print)


def test_a_unit_that_cannot_be_checked_stays_and_says_so(frames, points):
    said = []
    few = SparsePoints(points.xyz[:20], points.observations[:20])
    assert depth_factor(frames, few, said.append) == 1.0 and 'not checked' in said[0]


@pytest.fixture
def capture(frames, tmp_path) -> Capture:
    return Capture('walk', 'transforms', tmp_path, frames, frames[:2])


def test_wrong_poses_stop_a_build_before_its_triangulation(capture, frames, tmp_path, monkeypatch):
    monkeypatch.setattr(foundation, 'triangulate', None)
    wrong = with_poses(frames, CONTRADICTIONS['world-to-camera'][0])
    with pytest.raises(AprlocError, match='they fit as world-to-camera poses'):
        find_foundation(replace(capture, train=wrong, test=wrong[:2]), wrong, tmp_path, 300, print)


def test_what_was_found_is_kept_and_told_to_all_frames(capture, frames, points, tmp_path, monkeypatch):
    found, asked = Lens(CAMERA, replace(CAMERA, fx=250.0)), []

    def triangulated(fit, work_dir, most, report, verified):
        asked.append(verified)
        return Structure(points, (found,))
    monkeypatch.setattr(foundation, 'triangulate', triangulated)
    tum = tuple(replace(frame, depth_unit_m=1 / 5000) for frame in frames)
    said = []
    made = find_foundation(replace(capture, train=tum, test=tum[:2]), tum, tmp_path, 300, said.append)
    assert asked == [True] and any('poses: ' in text and '%' in text for text in said)
    torch.save(made.to_list(), tmp_path / 'foundation.pt')
    again = Foundation.from_list(torch.load(tmp_path / 'foundation.pt', weights_only=True))
    for each in (made, again):
        frame = each.known(tum)[0]
        assert frame.camera == found.found and frame.depth_unit_m == pytest.approx(0.001)
        assert torch.equal(each.points.xyz, points.xyz) and each.reason == ''


def test_too_few_points_are_no_end(capture, frames, tmp_path, monkeypatch):
    def failed(*_):
        raise TooFewPoints('only 3 points')
    monkeypatch.setattr(foundation, 'triangulate', failed)
    monkeypatch.setattr(foundation, 'check_poses', lambda *_: Agreement('poses: not checked', False))
    made = find_foundation(capture, frames, tmp_path, 300, print)
    assert made.reason == 'only 3 points' and not len(made.points.xyz) and made.depth_factor == 1.0
    assert len(made.known(frames)) == COUNT
