"""Messages against OpenCV's and SciPy's reading of the same numbers, and the covariance against sampling."""

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='ROS is not installed')
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.covariance import to_base
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.recordings import message_fields
from aprloc_ros.recordings.camera_info import camera_from_info
from aprloc_ros.ros import messages as ros_messages

K = [500.0, 0.0, 320.5, 0.0, 510.0, 240.25, 0.0, 0.0, 1.0]
P = [480.0, 0.0, 319.0, 0.0, 0.0, 490.0, 239.0, 0.0, 0.0, 0.0, 1.0, 0.0]
STAMP = Time(sec=7, nanosec=8)


def info(model='plumb_bob', d=(-0.2, 0.05, 0.001, -0.002, 0.01), **changes):
    return CameraInfo(**{'width': 640, 'height': 480, 'distortion_model': model, 'd': list(d), 'k': K, 'p': P, **changes})


def transform(*tangent):
    return se3_exp(torch.tensor(tangent, dtype=torch.float64))


def test_distortion_models():
    camera = camera_from_info(info())
    assert camera == Camera(640, 480, 500, 510, 320.5, 240.25, 'opencv', (-0.2, 0.05, 0.001, -0.002, 0.01))
    rational = tuple(0.01 * i for i in range(1, 9))
    assert camera_from_info(info('rational_polynomial', rational)).distortion == rational
    assert camera_from_info(info('rational_polynomial', (*rational, 0.0, 0.0, 0.0, 0.0))).distortion == rational
    fisheye = camera_from_info(info('equidistant', (0.1, 0.0, 0.0, 0.01)))
    assert (fisheye.model, fisheye.distortion) == ('fisheye', (0.1, 0.0, 0.0, 0.01))
    for model, d in (('', ()), ('plumb_bob', ()), ('plumb_bob', (0.0,) * 5), ('rational_polynomial', (0.0,) * 8)):
        assert camera_from_info(info(model, d)) == Camera(640, 480, 500, 510, 320.5, 240.25)


def test_a_rectified_image_takes_p_and_no_distortion():
    assert camera_from_info(info(), rectified=True) == Camera(640, 480, 480, 490, 319, 239)


def test_a_region_of_interest_and_binning_see_the_same_rays():
    region = RegionOfInterest(x_offset=100, y_offset=60, width=320, height=240)
    camera = camera_from_info(info(roi=region, binning_x=2, binning_y=4))
    assert (camera.width, camera.height) == (160, 60)
    whole = camera_from_info(info())
    # The pixel (10, 5) of the image averages 2x4 pixels of the sensor, whose centre is at:
    u, v = 100 + 2 * 10 + 0.5, 60 + 4 * 5 + 1.5
    assert (10 - camera.cx) / camera.fx == pytest.approx((u - whole.cx) / whole.fx)
    assert (5 - camera.cy) / camera.fy == pytest.approx((v - whole.cy) / whole.fy)


def test_the_camera_undistorts_as_opencv_does():
    camera = camera_from_info(info())
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    image = cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    expected = cv2.undistort(image, np.reshape(K, (3, 3)), np.array(camera.distortion))
    difference = np.abs(warp_image(image, camera, camera.without_distortion()).astype(int) - expected)
    assert np.percentile(difference, 99) <= 2


@pytest.mark.parametrize('changes, words', [
    ({'width': 0}, '0x480'), ({'k': [0.0] * 9}, 'no calibration'), ({'model': 'thin_prism'}, 'thin_prism'),
    ({'model': '', 'd': (0.1,)}, "distortion model ''"), ({'d': (0.1, 0.2)}, '2 distortion coefficients'),
    ({'d': (0.1,) * 6}, '6 distortion'), ({'model': 'rational_polynomial', 'd': (0.1,) * 12}, '12 distortion'),
    ({'model': 'rational_polynomial', 'd': (0.1,) * 7}, '7 distortion'),
    ({'model': 'equidistant', 'd': (0.1,)}, '1 distortion'), ({'d': (float('nan'),) * 5}, 'coefficients|finite'),
    ({'k': [float('nan'), *K[1:]]}, 'finite'), ({'k': [-500.0, *K[1:]]}, 'positive'),
    ({'width': 2**31}, 'outside 1 to'), ({'roi': RegionOfInterest(x_offset=600, width=100, height=100)}, 'outside its'),
    ({'roi': RegionOfInterest(x_offset=1)}, 'region'), ({'binning_x': 1000}, '0x480')])
def test_a_broken_camera_info_is_one_line(changes, words):
    with pytest.raises(AprlocError, match=words) as caught:
        camera_from_info(info(**changes))
    assert '\n' not in str(caught.value)


def test_a_rectified_region_is_refused():
    region = RegionOfInterest(width=100, height=100, do_rectify=True)
    with pytest.raises(AprlocError, match='do_rectify'):
        camera_from_info(info(roi=region), rectified=True)


def test_poses_and_transforms():
    T = transform(1, -2, 3, 0.3, -2.0, 0.7)
    expected = Rotation.from_matrix(T[:3, :3].numpy()).as_quat(canonical=True)
    stamped = ros_messages.pose_stamped(STAMP, 'map', T)
    assert (stamped.header.stamp, stamped.header.frame_id) == (STAMP, 'map')
    tf = ros_messages.transform_stamped(STAMP, 'map', 'odom', T)
    assert (tf.header.frame_id, tf.child_frame_id) == ('map', 'odom')
    for xyz, q in ((stamped.pose.position, stamped.pose.orientation), (tf.transform.translation, tf.transform.rotation)):
        np.testing.assert_allclose([xyz.x, xyz.y, xyz.z], T[:3, 3])
        np.testing.assert_allclose([q.x, q.y, q.z, q.w], expected, atol=1e-12)
        torch.testing.assert_close(message_fields.rigid_transform(xyz, q, 'here'), T)


@pytest.mark.parametrize('q', [Quaternion(w=0.0), Quaternion(w=float('nan')), Quaternion(w=2.0)])
def test_a_quaternion_that_is_none_is_refused(q):
    with pytest.raises(AprlocError, match='odom: the quaternion'):
        message_fields.rigid_transform(Point(), q, 'odom')


def test_the_published_covariance_is_that_of_sampled_poses_of_the_base():
    """Camera poses drawn from the estimate's covariance, moved to the base, measured as ROS defines its numbers."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6)) * 1e-3
    covariance_cam = torch.from_numpy(factor @ factor.T)
    T_map_cam, T_base_cam = transform(50, -20, 3, 1.0, 2.0, -0.5), transform(0.5, 0.2, 1.5, -1.2, 0.3, 0.8)
    T_cam_base = invert(T_base_cam)
    T_map_base = T_map_cam @ T_cam_base
    xi = torch.from_numpy(rng.normal(size=(40_000, 6)) @ factor.T)
    sampled = T_map_cam @ se3_exp(xi) @ T_cam_base
    position = (sampled[:, :3, 3] - T_map_base[:3, 3]).numpy()
    about_map_axes = Rotation.from_matrix((sampled[:, :3, :3] @ T_map_base[:3, :3].T).numpy()).as_rotvec()
    measured = np.cov(np.hstack([position, about_map_axes]).T)
    message = ros_messages.pose_with_covariance(STAMP, 'map', T_map_base, to_base(covariance_cam, T_cam_base))
    published = np.reshape(message.pose.covariance, (6, 6))
    scale = np.sqrt(np.outer(measured.diagonal(), measured.diagonal()))
    assert np.abs(published - measured).max() / scale.max() < 0.03
    assert (np.abs(published - measured) / scale).max() < 0.05
    np.testing.assert_array_equal(published, published.T)


def test_diagnostics():
    message = ros_messages.diagnostics(STAMP, 'relocalize', b'\x01', 'late', {'frames': '3'})
    status = message.status[0]
    assert (message.header.stamp, status.name, status.level, status.message) == (STAMP, 'relocalize', b'\x01', 'late')
    assert [(v.key, v.value) for v in status.values] == [('frames', '3')]
