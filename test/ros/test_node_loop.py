"""A bag that begins again, with /clock: the node forgets what was later, and goes on. Through TF where tf2_ros is there."""

import importlib.util
import time

import pytest
from scipy.spatial.transform import Rotation
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_peer import LINE, camera_info_message, image_message, line_pixels, running_nodes, set_stamp
from rosgraph_msgs.msg import Clock

from aprloc_ros.geometry import BODY_FROM_CV
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.message_fields import stamp_ns

FIRST_S, LENGTH_S, PERIOD_S, PACE = 1000.0, 15.0, 0.1, 5.0   # longer than TF's memory of ten seconds
FRAMES = round(LENGTH_S / PERIOD_S)
FROM_M, TO_M = 0.6, 4.2
WITH_TF = pytest.mark.skipif(importlib.util.find_spec('tf2_ros') is None, reason='tf2_ros is not on PyPI')


class Bag:
    """Publishes a drive along the line with its clock and odometry."""

    def __init__(self, peer, odometry, tiny_map):
        self.peer, node = peer, peer._node
        T_map_cam = Localizer(load_map(tiny_map, 'cpu'), 'cpu').localize(line_pixels(2.0), CAMERA).T_map_cam
        T_map_base = T_map_cam if odometry == 'tf' else T_map_cam @ BODY_FROM_CV.T
        self._looks = Rotation.from_matrix(T_map_base[:3, :3].numpy()).as_quat()   # the robot slides, it does not turn
        self._clock = node.create_publisher(Clock, '/clock', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        self._odometry = odometry
        self.sent_back = []   # stamps of map -> odom
        if odometry == 'tf':
            from tf2_msgs.msg import TFMessage
            self._message = TFMessage
            self._tf = node.create_publisher(TFMessage, '/tf', 100)
            self._static = node.create_publisher(
                TFMessage, '/tf_static', QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
            node.create_subscription(TFMessage, '/tf', self._on_tf, 1000)
            self._static.publish(TFMessage(transforms=[transform('base_link', 'camera', 0.0, [0.0, 0.0, 0.0, 1.0], 0)]))

    def _on_tf(self, message):
        self.sent_back += [stamp_ns(t.header.stamp) for t in message.transforms if t.header.frame_id == 'map']

    def play(self):
        """Once, from its beginning -> stamps of the images."""
        self.sent_back.clear()
        self.peer.publish('camera_info', camera_info_message(CAMERA))
        stamps, start_s = [], time.monotonic()
        for index in range(FRAMES):
            now_ns = round((FIRST_S + index * PERIOD_S) * 1e9)
            x_m = FROM_M + index / FRAMES * (TO_M - FROM_M)
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(now_ns, 10**9)
            self._clock.publish(message)
            self._publish_odometry(x_m, now_ns)
            self.peer.publish('image', image_message(line_pixels(x_m), now_ns))
            stamps.append(now_ns)
            self.peer.spin_for(max(0.0, start_s + (index + 1) * PERIOD_S / PACE - time.monotonic()))
        return stamps

    def _publish_odometry(self, x_m, now_ns):
        if self._odometry == 'tf':
            self._tf.publish(self._message(transforms=[transform('odom', 'base_link', x_m, self._looks, now_ns)]))
            return
        message = set_stamp(Odometry(child_frame_id='base_link'), now_ns)
        message.header.frame_id, message.pose.pose.position.x = 'odom', x_m
        set_quaternion(message.pose.pose.orientation, self._looks)
        self.peer.publish('odom', message)


def set_quaternion(message, xyzw):
    message.x, message.y, message.z, message.w = map(float, xyzw)


def transform(parent, child, x_m, xyzw, time_ns):
    message = set_stamp(TransformStamped(child_frame_id=child), time_ns)
    message.header.frame_id, message.transform.translation.x = parent, x_m
    set_quaternion(message.transform.rotation, xyzw)
    return message


@pytest.mark.parametrize('odometry', ['topic', pytest.param('tf', marks=WITH_TF)])
def test_each_round_is_answered_and_its_odometry_is_known(tmp_path, peer, tiny_map, odometry):
    with running_nodes(tmp_path, peer, tiny_map) as start:
        log = start(LINE, use_sim_time=True, odometry=odometry, gate_probability=1.0,
                    extrinsics='tf' if odometry == 'tf' else 'parameters')
        peer.wait_until_active()
        bag = Bag(peer, odometry, tiny_map)
        peer.spin_for(1.0)
        for _ in range(3):
            peer.forget()
            stamps = bag.play()
            peer.wait_for(lambda: any(stamp in peer.poses for stamp in stamps[-20:]), 'the last poses of this round')   # noqa: B023
            said = [status.message for status in peer.diagnostics if status.message]
            blind = [text for text in said if 'no transform' in text or 'contradicts' in text]
            assert len(blind) < len(said) / 2, (len(said), blind)
            if odometry == 'tf':   # sent at a steady rate in each round, on its clock
                half_ns = round((FIRST_S + LENGTH_S / 2) * 1e9)
                early = [stamp for stamp in bag.sent_back if FIRST_S * 1e9 < stamp < half_ns]
                assert len(early) > 10
    text = log.read_text()
    assert text.count('time was set back') >= 2 and text.count('TF_OLD_DATA') < 20, text.count('TF_OLD_DATA')


def test_stamps_alone_tell_when_nobody_publishes_the_clock(tmp_path, peer, tiny_map):
    with running_nodes(tmp_path, peer, tiny_map) as start:
        log = start(LINE, odometry='topic', gate_probability=1.0)
        peer.wait_until_active()
        bag = Bag(peer, 'topic', tiny_map)
        for _ in range(2):
            peer.forget()
            stamps = bag.play()
            peer.wait_for(lambda: any(stamp in peer.poses for stamp in stamps[-20:]), 'the last poses of this round')   # noqa: B023
    assert log.read_text().count('time was set back') == 1


