"""Extrinsics, odometry in between its messages, and TF with stand-ins for the packages that are not on PyPI."""

import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='ROS is not installed')
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry

from aprloc_ros import transforms
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.ros_messages import pose_to_message, transform_stamped

STAMP = Time(sec=7)


def transform(*tangent):
    return se3_exp(torch.tensor(tangent, dtype=torch.float64))


@pytest.fixture
def no_tf(monkeypatch):
    for name in ('tf2_ros', 'tf2_msgs', 'tf2_msgs.msg'):
        monkeypatch.setitem(sys.modules, name, None)


def test_roll_pitch_yaw_as_in_urdf():
    expected = Rotation.from_euler('xyz', [0.3, -0.5, 1.2]).as_matrix()
    np.testing.assert_allclose(transforms.rotation_from_rpy(0.3, -0.5, 1.2).numpy(), expected, atol=1e-12)


def test_a_camera_that_looks_ahead_sees_forward_along_its_z_axis():
    lookup = transforms.extrinsics_from_parameters('base_link', (0.1, 0.2, 0.3), (0.0, 0.0, 0.0))
    T_base_cam = lookup('camera', STAMP)
    point_cam = torch.tensor([1.0, 2.0, 5.0, 1.0], dtype=torch.float64)  # 1 right, 2 down, 5 ahead
    torch.testing.assert_close((T_base_cam @ point_cam)[:3], torch.tensor([5.1, -0.8, -1.7], dtype=torch.float64))


def test_a_camera_that_looks_left():
    lookup = transforms.extrinsics_from_parameters('base_link', (0.0, 0.0, 0.0), (0.0, 0.0, np.pi / 2))
    ahead = lookup('camera', STAMP)[:3, 2]
    torch.testing.assert_close(ahead, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))


def test_an_image_in_the_base_frame_needs_no_extrinsics():
    lookup = transforms.extrinsics_from_parameters('camera', (1.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    torch.testing.assert_close(lookup('camera', STAMP), torch.eye(4, dtype=torch.float64))


def test_without_tf2_ros_the_parameters_count_and_it_is_said(no_tf):
    lookup, missing = transforms.make_extrinsics(None, 'auto', 'base_link', (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    assert 'tf2_ros is not installed' in missing
    torch.testing.assert_close(lookup('camera', STAMP)[:3, 3], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert transforms.make_extrinsics(None, 'parameters', 'base_link', (0.0,) * 3, (0.0,) * 3)[1] == ''
    with pytest.raises(AprlocError, match='tf2_ros is not installed'):
        transforms.make_extrinsics(None, 'tf', 'base_link', (0.0,) * 3, (0.0,) * 3)


@pytest.fixture
def tf2_ros(monkeypatch):
    """A stand-in with the calls of tf2_ros that we use, answering from a dictionary and recording what is sent."""
    module = types.ModuleType('tf2_ros')
    module.known, module.asked, module.sent = {}, [], []
    module.TransformException = type('TransformException', (Exception,), {})

    def lookup_transform(self, target, source, time, timeout):
        module.asked.append((time.nanoseconds, timeout.nanoseconds))
        if (target, source) not in module.known:
            raise module.TransformException(f'"{source}" does not exist')
        return module.known[target, source]

    module.Buffer = type('Buffer', (), {'lookup_transform': lookup_transform})
    module.TransformListener = lambda buffer, node: SimpleNamespace(buffer=buffer, node=node)
    module.TransformBroadcaster = lambda node: SimpleNamespace(sendTransform=module.sent.append)
    monkeypatch.setitem(sys.modules, 'tf2_ros', module)
    return module


@pytest.mark.parametrize('choice', ['auto', 'tf'])
def test_tf2_ros_gives_the_transform_at_the_images_stamp(tf2_ros, choice):
    T_base_cam = transform(1, 2, 3, 0.1, 0.2, 0.3)
    tf2_ros.known['base_link', 'camera'] = transform_stamped(STAMP, 'base_link', 'camera', T_base_cam)
    lookup, missing = transforms.make_extrinsics('node', choice, 'base_link', (0.0,) * 3, (0.0,) * 3)
    assert missing == ''
    torch.testing.assert_close(lookup('camera', STAMP), T_base_cam)
    assert tf2_ros.asked == [(7 * 10**9, 10**8)]
    torch.testing.assert_close(lookup('base_link', STAMP), torch.eye(4, dtype=torch.float64))
    with pytest.raises(AprlocError, match="no transform from the camera 'other' to 'base_link'"):
        lookup('other', STAMP)


def test_broadcasting_through_tf2_ros(tf2_ros):
    send, missing = transforms.make_broadcaster('node')
    message = TransformStamped()
    send(message)
    assert tf2_ros.sent == [message] and missing == ''


def test_broadcasting_through_tf2_msgs_alone(no_tf, monkeypatch):
    module = types.ModuleType('tf2_msgs.msg')
    module.TFMessage = SimpleNamespace
    monkeypatch.setitem(sys.modules, 'tf2_msgs', types.ModuleType('tf2_msgs'))
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', module)
    published = []
    node = SimpleNamespace(create_publisher=lambda kind, topic, qos: SimpleNamespace(
        publish=lambda message: published.append((kind, topic, message.transforms))))
    send, missing = transforms.make_broadcaster(node)
    message = TransformStamped()
    send(message)
    assert published == [(SimpleNamespace, '/tf', [message])]
    assert missing == 'tf2_ros is not installed: TF is published through tf2_msgs alone'


def test_without_either_tf_is_off_and_it_is_said(no_tf):
    send, missing = transforms.make_broadcaster(None)
    assert send is None and 'neither tf2_ros nor tf2_msgs is installed' in missing


def odometry(time_s, T, frame='odom', child='base_link'):
    message = Odometry(child_frame_id=child)
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(time_s * 1e9), 10**9)
    message.pose.pose = pose_to_message(T)
    return message


def on_a_circle(time_s):
    """1 m/s and 0.5 rad/s: constant velocity in the body, so that the closed form is a screw motion."""
    return transform(0.3, 0.0, 0.0, 0.0, 0.0, 0.2) @ transform(time_s, 0.0, 0.0, 0.0, 0.0, 0.5 * time_s)


@pytest.mark.parametrize('time_s', [10.0, 10.033, 10.1, 10.249, 10.3])
def test_odometry_between_and_shortly_after_its_messages(time_s):
    buffer = transforms.OdometryBuffer('base_link')
    for at_s in (10.0, 10.1, 10.2):
        buffer.add(odometry(at_s, on_a_circle(at_s)))
    frame, T_odom_base = buffer.at(round(time_s * 1e9))
    assert frame == 'odom'
    torch.testing.assert_close(T_odom_base, on_a_circle(time_s), atol=1e-6, rtol=0)


def test_one_message_of_odometry_stands_for_its_moment():
    buffer = transforms.OdometryBuffer('base_link')
    buffer.add(odometry(10.0, on_a_circle(10.0)))
    torch.testing.assert_close(buffer.at(10_050_000_000)[1], on_a_circle(10.0))


@pytest.mark.parametrize('time_s', [9.7, 10.5])
def test_old_odometry_is_not_used(time_s):
    buffer = transforms.OdometryBuffer('base_link')
    with pytest.raises(AprlocError, match='nothing on the topic odom'):
        buffer.at(round(time_s * 1e9))
    buffer.add(odometry(10.0, on_a_circle(10.0)))
    buffer.add(odometry(10.1, on_a_circle(10.1)))
    with pytest.raises(AprlocError, match='no odometry within 0.2 s'):
        buffer.at(round(time_s * 1e9))


def test_a_clock_that_was_set_back_forgets_the_odometry_before():
    buffer = transforms.OdometryBuffer('base_link')
    buffer.add(odometry(100.0, on_a_circle(0.0)))
    buffer.add(odometry(10.0, on_a_circle(10.0)))
    torch.testing.assert_close(buffer.at(10 * 10**9)[1], on_a_circle(10.0))
    with pytest.raises(AprlocError):
        buffer.at(100 * 10**9)


def test_odometry_of_another_body_or_without_a_pose_is_refused():
    buffer = transforms.OdometryBuffer('base_link')
    with pytest.raises(AprlocError, match="odom is of 'wheel', not of the base_frame 'base_link'"):
        buffer.add(odometry(1.0, on_a_circle(1.0), child='wheel'))
    broken = odometry(1.0, on_a_circle(1.0))
    broken.pose.pose.position.x = float('nan')
    with pytest.raises(AprlocError, match='odom: '):
        buffer.add(broken)
