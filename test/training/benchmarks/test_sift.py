"""The SIFT baseline and the damages of the robustness table."""

import cv2
import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, cloud, truth

from aprloc_ros.geometry import invert, pose_errors
from aprloc_ros.training.benchmarks.measures.damages import damages
from aprloc_ros.training.benchmarks.rivals.feature_map import FeatureMap, solve_pnp
from aprloc_ros.training.benchmarks.rivals.sift import SIFT
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.place import write_capture
from aprloc_ros.training.structure.triangulation import triangulate


def test_pnp_finds_a_known_pose_among_outliers():
    xyz, T = cloud(200).xyz, truth(3)
    T_cam_map = invert(T)
    pixels, inside = CAMERA.project(xyz @ T_cam_map[:3, :3].T + T_cam_map[:3, 3])
    xyz, pixels = xyz[inside].numpy(), pixels[inside].numpy()
    pixels[::3] = np.random.default_rng(0).random((len(pixels[::3]), 2)) * [320, 240]
    found = solve_pnp(xyz, pixels, CAMERA.matrix, 2.0, 500, cv2.SOLVEPNP_P3P)
    error_m, error_deg = pose_errors(found, T)
    assert error_m < 1e-3 and error_deg < 1e-2


def test_too_few_or_degenerate_matches_give_none():
    assert solve_pnp(np.zeros((3, 3)), np.zeros((3, 2)), CAMERA.matrix, 2.0, 100, cv2.SOLVEPNP_P3P) is None
    assert solve_pnp(np.zeros((20, 3)), np.zeros((20, 2)), CAMERA.matrix, 2.0, 100, cv2.SOLVEPNP_P3P) is None


@pytest.fixture(scope='module')
def photograph():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return cv2.resize(cv2.resize(image, (20, 15)), (80, 60))


def test_damages_do_what_they_say(photograph):
    found = {name: damage(photograph, torch.Generator().manual_seed(0)) for name, damage in damages(1.5).items()}
    assert all(image.shape == photograph.shape and image.dtype == np.uint8 for image in found.values())
    assert np.array_equal(found['as it is'], photograph)
    light = (photograph / 255.0) ** 2.2
    dark = (found['half the exposure'] / 255.0) ** 2.2
    np.testing.assert_allclose(dark, light / 2, atol=0.01)
    bright = (found['double the exposure'] / 255.0) ** 2.2
    np.testing.assert_allclose(bright, np.minimum(2 * light, 1), atol=0.01)
    detail = {name: np.abs(np.diff(image.astype(float), axis=1)).mean() for name, image in found.items()}
    assert detail['twice the training blur'] < detail['training blur'] < detail['as it is']
    for name, share in (('a quarter covered', 0.25), ('half covered', 0.5)):
        assert (found[name] != photograph).any(2).mean() == pytest.approx(share, abs=0.05)
    assert (found['noise of 10 %'].astype(float) - photograph).std() == pytest.approx(25.5, rel=0.25)


@pytest.mark.slow
def test_sift_localises_in_the_court(tmp_path):
    write_capture(tmp_path / 'court', 0, print)
    capture = read_capture(tmp_path / 'court')
    sift = FeatureMap(SIFT, capture.train, triangulate(capture.train, tmp_path / 'colmap', 360).points)
    errors = []
    for frame in capture.test[::10]:
        T = sift.localize(frame.read_image(), frame.camera)
        errors.append(pose_errors(T, frame.T_map_cam)[0].item() if T is not None else np.inf)
    assert np.median(errors) < 0.1
