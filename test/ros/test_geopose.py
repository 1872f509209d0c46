"""The pose on Earth, with a stand-in for geographic_msgs, which no wheel brings."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

pytest.importorskip('rclpy', reason='ROS is not installed')
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, so3_exp
from aprloc_ros.placement.geodesy import GeodeticOrigin, to_enu
from aprloc_ros.ros.geopose import check_origin, make_geopose, make_publisher

ORIGIN = GeodeticOrigin(52.52, 13.405, 80.0)


class GeoPoseStamped:
    """As geographic_msgs has it."""

    def __init__(self):
        position = SimpleNamespace(latitude=0.0, longitude=0.0, altitude=0.0)
        self.header, self.pose = None, SimpleNamespace(position=position, orientation=Quaternion())


class Node:
    """Keeps what is published."""

    def __init__(self):
        self.sent = []

    def create_lifecycle_publisher(self, kind, topic, depth):
        assert kind is GeoPoseStamped and topic == 'geopose'
        return SimpleNamespace(publish=self.sent.append, msg_type=kind)


@pytest.fixture
def geographic_msgs(monkeypatch):
    module = ModuleType('geographic_msgs.msg')
    module.GeoPoseStamped = GeoPoseStamped
    monkeypatch.setitem(sys.modules, 'geographic_msgs', ModuleType('geographic_msgs'))
    monkeypatch.setitem(sys.modules, 'geographic_msgs.msg', module)


def test_a_pose_is_said_in_degrees_and_axes_of_the_origin(geographic_msgs):
    node, yaw = Node(), torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64)
    xyz = torch.tensor([120.0, -45.0, 2.0], dtype=torch.float64)
    make_geopose(make_publisher(node), check_origin(ORIGIN))(Time(sec=7), 'map', pose(so3_exp(yaw), xyz))
    message, = node.sent
    position = message.pose.position
    found = to_enu(ORIGIN, torch.tensor([position.latitude, position.longitude, position.altitude], dtype=torch.float64))
    assert torch.allclose(found, xyz, atol=1e-5)
    assert message.pose.orientation.z == pytest.approx(0.247404, abs=1e-6)   # sin(0.25)
    assert (message.header.frame_id, message.header.stamp.sec) == ('map', 7)


def test_a_map_that_lies_nowhere_and_a_missing_package_are_one_line(geographic_msgs, monkeypatch):
    with pytest.raises(AprlocError, match='does not know where on Earth'):
        check_origin(None)
    monkeypatch.setitem(sys.modules, 'geographic_msgs.msg', None)
    with pytest.raises(AprlocError, match='geographic_msgs is not installed') as refusal:
        make_publisher(Node())
    assert len(str(refusal.value).splitlines()) == 1
