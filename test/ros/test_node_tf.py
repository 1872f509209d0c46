"""The real node's transforms, through a stand-in for tf2_msgs, which is not on PyPI."""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='ROS is not installed')
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from ros_peer import (
    PATIENCE_S,
    PIXELS,
    assert_answers,
    frame_counts,
    image_message,
    next_stamp,
    set_stamp,
)

from aprloc_ros.recordings.message_fields import rigid_transform, stamp_ns

T_ODOM_BASE = np.eye(4)
T_ODOM_BASE[:3, :3] = Rotation.from_euler('z', 0.5).as_matrix()
T_ODOM_BASE[:3, 3] = 4.0, 5.0, 0.0


def odometry_message(T_odom_base, time_ns):
    message = set_stamp(Odometry(child_frame_id='base_link'), time_ns)
    message.header.frame_id = 'odom'
    pose = message.pose.pose
    pose.position.x, pose.position.y, pose.position.z = T_odom_base[:3, 3]
    q = pose.orientation
    q.x, q.y, q.z, q.w = Rotation.from_matrix(T_odom_base[:3, :3]).as_quat()
    return message


# Registers a tf2_msgs that is not installed here: its messages leave as the poses of a topic of the test's.
RECORD_TF = '''
import sys, types
from geometry_msgs.msg import TransformStamped
from aprloc_ros import relocalize
from aprloc_ros.ros import transforms
from geometry_msgs.msg import PoseStamped
class TFMessage:
    def __init__(self, transforms):
        self.transforms = transforms
class Recorder:
    def __init__(self, publisher):
        self.publisher = publisher
    def publish(self, message):
        for t in message.transforms:
            out = PoseStamped(header=t.header)
            out.header.frame_id += ' ' + t.child_frame_id
            v, out.pose.orientation = t.transform.translation, t.transform.rotation
            out.pose.position.x, out.pose.position.y, out.pose.position.z = v.x, v.y, v.z
            self.publisher.publish(out)
module = types.ModuleType('tf2_msgs.msg')
module.TFMessage = TFMessage
sys.modules.update({'tf2_ros': None, 'tf2_msgs': types.ModuleType('tf2_msgs'), 'tf2_msgs.msg': module})
create = transforms.Node.create_publisher
def create_publisher(self, message_type, topic, *arguments, **keywords):
    if message_type is TFMessage:
        return Recorder(create(self, PoseStamped, 'recorded' + topic, *arguments, **keywords))
    return create(self, message_type, topic, *arguments, **keywords)
transforms.Node.create_publisher = create_publisher
sys.exit(relocalize.main())
'''


@pytest.fixture
def transforms(peer):
    """Transforms that the node sent to /tf, as (stamp, frames, T)."""
    heard = []
    subscription = peer._node.create_subscription(
        PoseStamped, 'recorded/tf', lambda m: heard.append((
            stamp_ns(m.header.stamp), m.header.frame_id, rigid_transform(m.pose.position, m.pose.orientation, 'tf'))),
        100)
    yield heard
    peer._node.destroy_subscription(subscription)


def see_with_odometry(peer, transforms, T_odom_base=T_ODOM_BASE):
    """Images with odometry of their stamps until there is a transform -> these stamps.

    Two topics: an image may arrive before its odometry, and then it has none.
    """
    stamps = []
    while not transforms:
        stamp, received = next_stamp(), frame_counts(peer)[0]
        stamps.append(stamp)
        peer.publish('odom', odometry_message(T_odom_base, stamp))
        peer.publish('image', image_message(PIXELS, stamp))
        peer.wait_for(lambda before=received: transforms or before < frame_counts(peer)[0] == sum(frame_counts(peer)[1:]),
                      'an answer')
    return stamps


def test_transform_to_the_base(run, peer, transforms):
    log = run(RECORD_TF, publish_tf='map_to_base', base_frame='base')
    peer.wait_until_active()
    stamp = assert_answers(peer)
    peer.wait_for(lambda: transforms, 'a transform')
    pose = peer.poses[stamp].pose
    assert transforms[0][:2] == (stamp, 'map base')
    torch.testing.assert_close(transforms[0][2], rigid_transform(pose.position, pose.orientation, 'pose'))
    assert log.read_text().count('TF is published through tf2_msgs alone') == 1


def test_transform_to_odom(run, peer, transforms):
    run(RECORD_TF, publish_tf='map_to_odom', tf_rate_hz=0.0, transform_tolerance_s=0.25)
    peer.wait_until_active()
    assert_answers(peer)
    peer.wait_for_diagnostic(lambda s: 'no odometry' in s.message and s.level == s.WARN, 'a warning')
    assert not transforms
    seen = see_with_odometry(peer, transforms)
    stamp = transforms[0][0] - 250_000_000
    assert stamp in seen and transforms[0][1] == 'map odom'
    peer.wait_for(lambda: stamp in peer.poses, 'the pose')
    pose = peer.poses[stamp].pose
    T_map_base = rigid_transform(pose.position, pose.orientation, 'pose').numpy()
    np.testing.assert_allclose(transforms[0][2].numpy() @ T_ODOM_BASE, T_map_base, atol=1e-9)


def test_the_last_transform_to_odom_is_sent_again_at_a_steady_rate_ahead_of_the_images_time(run, peer, transforms):
    run(RECORD_TF, publish_tf='map_to_odom', tf_rate_hz=50.0, transform_tolerance_s=0.5)
    peer.wait_until_active()
    assert_answers(peer)
    assert not transforms
    seen = see_with_odometry(peer, transforms)
    peer.wait_for(lambda: len(transforms) > 20, 'the transform, again and again')
    stamps = [heard for heard, _, _ in transforms]
    assert all(before < after for before, after in itertools.pairwise(stamps))
    # The images' clock is not the node's here: stamps continue from the image's own.
    assert seen[0] + 500_000_000 <= stamps[0] and stamps[-1] < seen[-1] + PATIENCE_S * 1e9
    for _, frames, T_map_odom in transforms:
        assert frames == 'map odom'
        torch.testing.assert_close(T_map_odom, transforms[0][2])


def test_odometry_that_is_set_anew_stops_the_transform_until_the_next_answer(run, peer, transforms):
    """Where the odometry goes on from zero, the transform of before would place the robot metres away."""
    log = run(RECORD_TF, publish_tf='map_to_odom', tf_rate_hz=50.0)
    peer.wait_until_active()
    assert_answers(peer)
    see_with_odometry(peer, transforms)
    for _ in range(2):
        peer.publish('odom', odometry_message(T_ODOM_BASE, next_stamp()))
    peer.publish('odom', odometry_message(np.eye(4), next_stamp()))
    peer.wait_for(lambda: 'odometry jumped by 6.40 m and 29 deg within 0.100 s: it was set anew' in log.read_text(), 'the word on it')
    before = transforms[0][2]

    def silent():
        """Those on their way come first."""
        transforms.clear()
        seen = len(peer.diagnostics)
        peer.wait_for(lambda: len(peer.diagnostics) > seen, 'a diagnostic, a second later')
        return not transforms
    peer.wait_for(silent, 'silence')
    seen = see_with_odometry(peer, transforms, np.eye(4))
    peer.wait_for(lambda: seen[-1] in peer.poses, 'the pose')
    pose = peer.poses[seen[-1]].pose
    torch.testing.assert_close(transforms[0][2], rigid_transform(pose.position, pose.orientation, 'pose'), atol=1e-6, rtol=0)
    assert (transforms[0][2] - before).abs().max() > 1
