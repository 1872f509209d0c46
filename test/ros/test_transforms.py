"""Extrinsics, and TF with stand-ins for the packages that are not on PyPI."""

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

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.ros import transforms
from aprloc_ros.ros.messages import transform_stamped

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
    lookup = transforms.extrinsics_from_parameters('camera', (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    torch.testing.assert_close(lookup('camera', STAMP), torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize('place', [((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((0.0, 0.0, 0.0), (0.0, 0.3, 0.0))])
def test_a_camera_cannot_sit_elsewhere_in_its_own_frame(place):
    """As drivers have it that name base_link: the robot's pose would be the camera's, its axes turned."""
    lookup = transforms.extrinsics_from_parameters('base_link', *place)
    with pytest.raises(AprlocError, match="images are of the frame 'base_link', base_frame itself, in which camera_xyz_m"):
        lookup('base_link', STAMP)


def test_without_tf2_ros_the_parameters_count_and_it_is_said(no_tf):
    lookup, missing = transforms.make_extrinsics(transforms.make_lookup(None), 'auto', 'base_link', (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    assert 'tf2_ros is not installed' in missing
    torch.testing.assert_close(lookup('camera', STAMP)[:3, 3], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert transforms.make_extrinsics(None, 'parameters', 'base_link', (0.0,) * 3, (0.0,) * 3)[1] == ''
    with pytest.raises(AprlocError, match='tf2_ros is not installed'):
        transforms.make_extrinsics(None, 'tf', 'base_link', (0.0,) * 3, (0.0,) * 3)


@pytest.fixture
def tf2_ros(monkeypatch):
    """A stand-in with the calls of tf2_ros that we use, answering from a dictionary and recording what is sent."""
    module = types.ModuleType('tf2_ros')
    module.known, module.asked, module.sent, module.nodes, module.cleared = {}, [], [], [], []
    module.TransformException = type('TransformException', (Exception,), {})

    def lookup_transform(self, target, source, time, timeout):
        module.asked.append((time.nanoseconds, timeout.nanoseconds))
        if (target, source) not in module.known:
            raise module.TransformException(f'"{source}" does not exist. ')
        return module.known[target, source]

    module.Buffer = type('Buffer', (), {
        '__init__': lambda self, node: module.nodes.append(node), 'lookup_transform': lookup_transform,
        'clear': lambda self: module.cleared.append(self)})
    module.TransformListener = lambda buffer, node: SimpleNamespace(buffer=buffer, node=node)
    module.TransformBroadcaster = lambda node: SimpleNamespace(sendTransform=module.sent.append)
    monkeypatch.setitem(sys.modules, 'tf2_ros', module)
    return module


def test_the_parameters_say_where_one_camera_sits():
    """Images of a rear camera on the same topic were placed where the front one sits, half a turn off."""
    lookup = transforms.extrinsics_from_parameters('base_link', (0.3, 0.0, 0.5), (0.0, 0.0, 0.0))
    front = lookup('front_optical', STAMP)
    for _ in range(2):
        with pytest.raises(AprlocError, match="the image is of the frame 'rear_optical', the first ones of 'front_optical'"):
            lookup('rear_optical', STAMP)
        for frame_id in ('front_optical', ''):
            torch.testing.assert_close(lookup(frame_id, STAMP), front)


@pytest.mark.parametrize('choice', ['auto', 'tf'])
def test_tf2_ros_gives_the_transform_at_the_images_stamp(tf2_ros, choice):
    T_base_cam = transform(1, 2, 3, 0.1, 0.2, 0.3)
    tf2_ros.known['base_link', 'camera'] = transform_stamped(STAMP, 'base_link', 'camera', T_base_cam)
    lookup, missing = transforms.make_extrinsics(transforms.make_lookup('node'), choice, 'base_link', (0.0,) * 3, (0.0,) * 3)
    assert missing == ''
    torch.testing.assert_close(lookup('camera', STAMP), T_base_cam)
    assert tf2_ros.asked == [(7 * 10**9, 10**8)]
    torch.testing.assert_close(lookup('base_link', STAMP), torch.eye(4, dtype=torch.float64))
    with pytest.raises(AprlocError, match='^no transform from \'other\' to \'base_link\': "other" does not exist; publish it'):
        lookup('other', STAMP)


def test_the_buffer_follows_the_clock_of_the_node_and_can_forget(tf2_ros):
    lookup = transforms.make_lookup('node')
    assert tf2_ros.nodes == ['node'] and not tf2_ros.cleared   # without a node it would follow the machine's clock
    lookup.forget()
    assert len(tf2_ros.cleared) == 1


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
