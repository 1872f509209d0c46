"""The real captures of $APRLOC_TEST_DATA or ../shared/data, where they are."""

import time

import cv2
import numpy as np
import pytest
import torch
from repository import DATA

from aprloc_ros.geometry import average_pose, pose_errors
from aprloc_ros.training.datasets import read_capture


def read(name: str):
    if not (DATA / name).is_dir():
        pytest.skip(f'{DATA / name} is not there')
    return read_capture(DATA / name)


def epipolar_error_px(first, second) -> float:
    """Median distance of SIFT matches from the epipolar lines that poses and cameras predict."""
    sift = cv2.SIFT_create(1000)
    keypoints, descriptors = zip(*(sift.detectAndCompute(frame.read_image(), None) for frame in (first, second)))
    pairs = cv2.BFMatcher().knnMatch(*descriptors, k=2)
    good = [pair[0] for pair in pairs if pair[0].distance < 0.7 * pair[1].distance]
    assert len(good) > 50
    rays = []
    for frame, points, index in zip((first, second), keypoints, ('queryIdx', 'trainIdx')):
        pixels = np.array([points[getattr(match, index)].pt for match in good])
        distortion = np.array(frame.camera.distortion or (0.0,) * 4)
        rays.append(cv2.undistortPoints(pixels[:, None], frame.camera.matrix, distortion)[:, 0])
    rays = [np.concatenate([xy, np.ones((len(xy), 1))], -1) for xy in rays]
    T = np.linalg.inv(second.T_map_cam.numpy()) @ first.T_map_cam.numpy()
    normals = np.cross(T[:3, 3], rays[0] @ T[:3, :3].T)
    distances = np.abs((normals * rays[1]).sum(-1)) / np.linalg.norm(normals[:, :2], axis=-1)
    return float(np.median(distances) * second.camera.fx)


def test_redkitchen():
    start = time.process_time()
    capture = read('redkitchen')
    assert time.process_time() - start < 10
    assert (len(capture.train), len(capture.test)) == (800, 100)
    camera = capture.train[0].camera
    assert (camera.model, camera.fx, camera.cx, camera.cy) == ('pinhole', 525.505, 319.5, 239.5)
    numbers = [int(frame.name[-10:-4]) for frame in capture.test]
    assert numbers == [*range(100, 150), *range(600, 650)]
    assert not {frame.name for frame in capture.train} & {frame.name for frame in capture.test}
    # The capture's own description: median distance to the nearest training centre, median angle to the mean pose.
    train, test = (torch.stack([frame.T_map_cam for frame in split]) for split in (capture.train, capture.test))
    nearest_m = torch.cdist(test[:, :3, 3], train[:, :3, 3]).min(-1).values
    assert np.median(nearest_m) == pytest.approx(0.083, abs=0.003)
    assert np.median(pose_errors(average_pose(train), test)[1]) == pytest.approx(25.7, abs=0.1)
    assert epipolar_error_px(capture.train[0], capture.train[20]) < 1


def test_fox():
    capture = read('fox')
    assert (len(capture.train), len(capture.test)) == (40, 10)
    camera = capture.train[0].camera
    assert (camera.width, camera.height, camera.model) == (360, 640, 'opencv')
    assert camera.distortion == (0.0578421, -0.0805099, -0.000980296, 0.00015575)
    assert epipolar_error_px(capture.train[0], capture.train[1]) < 1


def test_terrace():
    """Its intrinsics are of images four times as large."""
    capture = read('terrace')
    camera = capture.train[0].camera
    assert (camera.width, camera.height) == (480, 270) == capture.train[0].read_image().shape[1::-1]
    assert camera.fx == pytest.approx(1676.0809 / 4) and camera.cx == pytest.approx((961.42559) / 4 - 0.5, abs=1e-4)
    assert any('282 of 282 images are 480x270: their intrinsics of 1920x1080' in note for note in capture.notes)
    assert max(epipolar_error_px(*capture.train[i:i + 2]) for i in (40, 120)) < 1
