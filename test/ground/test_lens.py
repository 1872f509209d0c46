"""Cameras that turned out to be other than declared: which query is meant, and how far apart two lenses see."""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_capture import CAMERA, write_settings, write_wall

from aprloc_ros.camera import Camera
from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.lens import Lens, found_camera
from aprloc_ros.training import foundation
from aprloc_ros.training.build_map import Build
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.presets import load_preset
from aprloc_ros.training.request import Request
from aprloc_ros.training.structure.lens import moved_px, to_colmap
from aprloc_ros.training.structure.triangulation import Structure, TooFewPoints

DECLARED = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
FOUND = replace(DECLARED, fx=524.2, fy=524.0, cx=319.0, model='opencv', distortion=(0.01, -0.05, 0.0, 0.0))
LENS = Lens(DECLARED, FOUND)
FISHEYE = Camera(640, 480, 300.0, 300.0, 320.0, 240.0, 'fisheye', (0.1, 0.0, 0.0, 0.0))


@pytest.mark.parametrize('size', [(640, 480), (320, 240), (1280, 960)])
def test_the_declared_camera_is_known_at_any_size(size):
    assert found_camera(DECLARED.resized(*size), (LENS,)) == FOUND.resized(*size)


@pytest.mark.parametrize('distortion', [(0.0,) * 4, (0.0,) * 5])
def test_a_lens_of_zeros_is_none(distortion):
    assert found_camera(replace(DECLARED, model='opencv', distortion=distortion), (LENS,)) == FOUND


@pytest.mark.parametrize('other', [
    replace(DECLARED, fx=525.5), replace(DECLARED, cy=240.1), FOUND, FISHEYE,
    replace(DECLARED, model='opencv', distortion=(0.001, 0.0, 0.0, 0.0)), replace(DECLARED, height=360)])
def test_another_camera_is_itself(other):
    assert found_camera(other, (LENS,)) == other


def test_lenses_of_several_cameras_do_not_mix():
    second = Lens(replace(DECLARED, fx=600.0), replace(DECLARED, fx=601.0))
    assert found_camera(second.declared, (LENS, second)) == second.found
    assert found_camera(DECLARED, ()) == DECLARED


def test_a_lens_is_stored_with_the_map():
    assert from_mapping(Lens, to_mapping(LENS), 'map.yaml') == LENS
    with pytest.raises(AprlocError, match='found is 320x240; it must be of the size of declared, 640x480'):
        Lens(DECLARED, FOUND.resized(320, 240))


def test_a_longer_focal_length_moves_pixels_in_proportion_to_their_radius():
    longer = replace(DECLARED, fx=525 * 1.01, fy=525 * 1.01)
    u, v = np.meshgrid(np.linspace(0, 639, 17) - 320, np.linspace(0, 479, 17) - 240)
    assert math.isclose(moved_px(Lens(DECLARED, longer)), 0.01 * math.sqrt((u ** 2 + v ** 2).mean()), rel_tol=1e-6)
    assert moved_px(Lens(DECLARED, DECLARED)) < 1e-9


@pytest.mark.parametrize('camera', [FOUND, FISHEYE])
def test_a_shifted_centre_moves_all_pixels_alike(camera):
    assert math.isclose(moved_px(Lens(camera, replace(camera, cx=camera.cx + 3, cy=camera.cy - 4))), 5.0, rel_tol=1e-3)


@pytest.mark.parametrize(('camera', 'model', 'count'), [
    (DECLARED, 'OPENCV', 8), (FOUND, 'OPENCV', 8), (FISHEYE, 'OPENCV_FISHEYE', 8),
    (replace(FOUND, distortion=(0.1, 0.0, 0.0, 0.0, 0.0)), 'OPENCV', 8),
    (replace(FOUND, distortion=(0.1, 0.0, 0.0, 0.0, 0.2)), 'FULL_OPENCV', 12)])
def test_colmap_projects_as_opencv_does(camera, model, count):
    """COLMAP's first pixel's centre is at (0.5, 0.5)."""
    pycolmap = pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    name, parameters = to_colmap(camera)
    assert (name, len(parameters)) == (model, count)
    theirs = pycolmap.Camera(model=name, width=camera.width, height=camera.height, params=parameters)
    points = np.array([[0.1, -0.2, 1.0], [-0.3, 0.25, 1.0], [0.0, 0.0, 1.0]])
    optics = cv2.fisheye if camera.model == 'fisheye' else cv2
    distortion = np.array(camera.distortion or (0.0,) * 4)
    ours, _ = optics.projectPoints(points[:, None], np.zeros(3), np.zeros(3), camera.matrix, distortion)
    assert np.allclose(np.array([theirs.img_from_cam(p) for p in points]) - 0.5, ours[:, 0], atol=1e-6)


def started_build(tmp_path: Path) -> Build:
    capture = read_capture(write_wall(tmp_path / 'wall'))
    preset = load_preset('small', write_settings(tmp_path / 'tiny.yaml'))
    return Build(Request('wall', capture, 'small', preset, 0, 'none'), tmp_path / 'work', 'cpu')


def test_a_build_takes_all_frames_as_found_and_finds_once(tmp_path, monkeypatch):
    asked, points = [], SparsePoints(torch.zeros(60, 3, dtype=torch.float64), torch.zeros(60, 2, dtype=torch.long))
    found = replace(CAMERA, fx=41.0, model='opencv', distortion=(0.1, 0.0, 0.0, 0.0))

    def triangulated(frames, *_):
        asked.append({frame.camera for frame in frames})
        return Structure(points, (Lens(frames[0].camera, found),))
    monkeypatch.setattr(foundation, 'triangulate', triangulated)
    for _ in range(2):   # the second one goes on where the first was interrupted
        build = started_build(tmp_path)
        assert {frame.camera for frame in (*build.fit, *build.calibration, *build.test)} == {found}
        assert torch.equal(build.tracks.xyz, points.xyz)
    assert asked == [{CAMERA}]
    own = build.views(build.fit, 24).camera
    assert own.model == 'pinhole' and math.isclose(own.fx, 41.0 * 24 / 36)


def test_where_nothing_can_be_triangulated_cameras_are_as_declared(tmp_path, monkeypatch):
    asked = []

    def failed(frames, *_):
        asked.append(len(frames))
        raise TooFewPoints('only 3 points could be triangulated')
    monkeypatch.setattr(foundation, 'triangulate', failed)
    build = started_build(tmp_path)
    for _ in range(2):
        with pytest.raises(AprlocError, match='only 3 points'):
            _ = build.tracks
    assert build.lenses == () and {frame.camera for frame in build.fit} == {CAMERA}
    assert len(asked) == 1
