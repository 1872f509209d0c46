"""A domain that nobody uses: its ports say so."""

import os
import socket

import pytest

from aprloc_ros.command_line import domain
from aprloc_ros.errors import AprlocError


def test_it_is_one_that_every_system_can_have():
    assert {domain.free_domain() for _ in range(20)} <= set(range(1, 102))


def the_only_one(monkeypatch):
    """A free domain; there are no others now."""
    free = domain.free_domain()
    monkeypatch.setattr(domain, '_DOMAINS', range(free, free + 1))
    return free


@pytest.mark.parametrize('port', [0, 10, 12])   # of discovery: shared, of a first and a second participant
def test_a_domain_with_somebody_in_it_is_not_taken(monkeypatch, port):
    free = the_only_one(monkeypatch)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as robot:
        robot.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        robot.bind(('', 7400 + 250 * free + port))
        with pytest.raises(AprlocError, match='in use on this machine'):
            domain.free_domain()


def test_a_real_participant_is_seen(monkeypatch):
    rclpy = pytest.importorskip('rclpy', reason='ROS is not installed')
    free = the_only_one(monkeypatch)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=free)
    node = rclpy.create_node('robot', context=context)
    with pytest.raises(AprlocError):
        domain.free_domain()
    node.destroy_node()
    context.try_shutdown()


def test_inside_is_left_again(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '7')
    monkeypatch.delenv('ROS_STATIC_PEERS', raising=False)
    with domain.inside(42):
        assert os.environ['ROS_DOMAIN_ID'] == '42' and os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert os.environ['ROS_DOMAIN_ID'] == '7' and 'ROS_STATIC_PEERS' not in os.environ
