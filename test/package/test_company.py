"""A replay beside a robot: neither hears the other, whatever ROS_DOMAIN_ID says; in the robot's own domain it refuses."""

import itertools
import os

import numpy as np
import pytest
import torch
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from ros_peer import assert_answers, frame_counts, running_nodes

from aprloc_ros.cli import main
from aprloc_ros.recordings.bags import BagFrame, write_bag

pytestmark = pytest.mark.usefixtures('undrawn')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'bag'
    random = np.random.default_rng(0)
    write_bag(path, (BagFrame(5 * 10**9 + index * 10**8, random.integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8),
                              CAMERA, torch.eye(4, dtype=torch.float64)) for index in range(5)))
    return path


@pytest.fixture(scope='module')
def robot(tmp_path_factory, peer, tiny_map):
    """The peer of a robot that localises itself, in the domain of this process."""
    with running_nodes(tmp_path_factory.mktemp('robot'), peer, tiny_map) as start:
        start(publish_tf='none')
        peer.wait_until_active()
        assert_answers(peer)
        peer.sent = itertools.count(2)
        yield peer


def assert_that_it_received_its_own_images_alone(robot, sent):
    """One more, and so many in all."""
    assert_answers(robot)
    robot.wait_for(lambda: frame_counts(robot)[0] >= sent, 'the diagnostic that tells of it')
    assert frame_counts(robot)[0] == sent == len(robot.heard)


def play(bag, tiny_map, directory, *options):
    return main(['play', str(bag), '--map', 'tiny', '--map-dir', str(tiny_map.parent), '--report', str(directory / 'report'),
                 *options])


def test_a_replay_does_not_touch_the_robot(robot, bag, tiny_map, tmp_path, capsys):
    assert play(bag, tiny_map, tmp_path) == 1   # random weights: the poses were not good
    output = capsys.readouterr()
    assert 'frames sent: 5' in output.out and not output.err
    domain = next(word for word in output.out.split() if word.startswith('ROS_DOMAIN_ID=')).partition('=')[2]
    assert domain != os.environ['ROS_DOMAIN_ID']
    assert_that_it_received_its_own_images_alone(robot, next(robot.sent))


def test_in_the_domain_of_a_robot_it_refuses_and_plays_nothing(robot, bag, tiny_map, tmp_path, capsys):
    assert play(bag, tiny_map, tmp_path, '--domain', os.environ['ROS_DOMAIN_ID']) == 1
    error, = capsys.readouterr().err.splitlines()
    assert 'in this ROS domain: nothing is played to a robot' in error
    assert_that_it_received_its_own_images_alone(robot, next(robot.sent))
