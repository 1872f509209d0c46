"""The right camera of a stereo pair, raw and rectified, against OpenCV's own rectification."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from drive_fixtures import COUNT, DriveBag, even_camera_pose, picture, stamp

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import choose_topics, read_images
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.stereo import mounts_of_pair

SIZE = 64, 48
K = np.array([[50.0, 0, 32.5], [0, 51.0, 24.25], [0, 0, 1]])
D = np.array([-0.2, 0.05, 0.001, -0.002, 0.01])
R_RIGHT_LEFT, T_RIGHT_LEFT = cv2.Rodrigues(np.array([0.03, -0.05, 0.02]))[0], np.array([-0.12, 0.004, 0.006])


@pytest.fixture(scope='module')
def pair():
    """CameraInfo of the right camera, and R of the left one [3, 3]."""
    R_left, R, _, P, *_ = cv2.stereoRectify(K, D, K, D, SIZE, R_RIGHT_LEFT, T_RIGHT_LEFT)
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    return SimpleNamespace(width=64, height=48, distortion_model='plumb_bob', d=D, k=K.ravel(), r=R.ravel(), p=P.ravel(), roi=roi,
                           binning_x=0, binning_y=0), R_left


def pixels(X, P, R=None):
    """Where OpenCV sees points of the raw right camera [N, 3] in its rectified image."""
    seen, _ = cv2.projectPoints(X, np.zeros(3), np.zeros(3), K, D)
    return cv2.undistortPoints(seen, K, D, R=R, P=P)[:, 0]


def through(P, X):
    seen = X @ P[:, :3].T
    return seen[:, :2] / seen[:, 2:]


@pytest.mark.parametrize('rectified', [True, False])
def test_frames_that_the_poses_may_be_of_are_where_opencv_has_them(pair, rectified):
    info, R_left = pair
    X_right = np.random.default_rng(0).uniform([-1, -1, 4], [1, 1, 8], (30, 3))
    X_left = (X_right - T_RIGHT_LEFT) @ R_RIGHT_LEFT
    P, R = np.array(info.p).reshape(3, 4), np.array(info.r).reshape(3, 3)
    turned, beside = (mount.numpy() for mount in mounts_of_pair(info, rectified).values())
    X_rect = X_right @ R.T
    np.testing.assert_allclose(through(P, X_rect), pixels(X_right, P[:, :3], R), atol=1e-3)
    seen, other = (X_rect, X_right) if rectified else (X_right, X_rect)
    np.testing.assert_allclose(seen @ turned[:3, :3].T + turned[:3, 3], other, atol=1e-9)
    np.testing.assert_allclose(seen @ beside[:3, :3].T + beside[:3, 3], X_left @ R_left.T, atol=1e-9)


def test_a_camera_of_no_pair_leaves_nothing_open(pair):
    alone = SimpleNamespace(**{**vars(pair[0]), 'r': np.eye(3).ravel(), 'p': np.hstack([K, np.zeros((3, 1))]).ravel()})
    unset = SimpleNamespace(**{**vars(alone), 'r': np.zeros(9), 'p': np.zeros(12)})
    assert not mounts_of_pair(alone, True) and not mounts_of_pair(unset, False)


def test_rectified_is_declared_alike_for_build_replay_and_node(tmp_path):
    with DriveBag(tmp_path / 'bag') as bag:
        bag.info(camera=Camera(64, 48, 61.0, 62.0, 30.0, 24.0, 'opencv', (0.1, 0, 0, 0, 0)))
        for index in range(COUNT):
            bag.image(stamp(index), picture(index), '/camera/image')
            bag.pose('/pose', stamp(index), even_camera_pose(stamp(index)))
    plain = read_capture(tmp_path / 'bag', tmp_path / 'cache').train[0].camera
    with open_recording(tmp_path / 'bag') as recording:
        replayed = next(read_images(recording, choose_topics(recording, rectified=True))).camera()
    (tmp_path / 'bag/capture.yaml').write_text('rectified: true\n')
    assert read_capture(tmp_path / 'bag', tmp_path / 'cache').train[0].camera == replayed == plain.without_distortion() != plain
    for text in ('rectified: image\n', 'image_topic: true\n'):
        (tmp_path / 'bag/capture.yaml').write_text(text)
        with pytest.raises(AprlocError, match='each a name, but rectified true or false'):
            read_capture(tmp_path / 'bag', tmp_path / 'cache')
