"""The other side of the node in its tests: starts it as a process, talks to it over DDS, remembers what it said."""

import array
import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections import deque

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from nursery import Forked
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tiny_map import CAMERA

from aprloc_ros.recordings.message_fields import stamp_ns

PATIENCE_S = 300.0
_LEADS_TO = {'configure': 'inactive', 'activate': 'active', 'deactivate': 'inactive', 'cleanup': 'unconfigured'}
PIXELS = np.random.default_rng(0).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
_stamps_ns = itertools.count(10**9, 10**8)


def next_stamp():
    """In nanoseconds, later than all before."""
    return next(_stamps_ns)


def set_stamp(message, time_ns):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(time_ns, 10**9)
    return message


def image_message(pixels, time_ns=0, encoding='rgb8', frame_id='camera'):
    """pixels [H, W, C] uint8 -> sensor_msgs/Image."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                    step=pixels.nbytes // pixels.shape[0], data=array.array('B', pixels.tobytes()))
    message.header.frame_id = frame_id
    return set_stamp(message, time_ns)


# A place along a line: the brighter the image, the further along x, 2 cm for each grey level. Where the node starts
# from, if anywhere, is told as the score.
LINE = '''
import dataclasses, sys
import torch
from aprloc_ros import localizer, relocalize
answer = localizer.Localizer.localize
def localize(self, image, camera=None, starts=None):
    estimate = answer(self, image, camera)
    T_map_cam = estimate.T_map_cam.clone()
    T_map_cam[0, 3] = 0.02 * image.mean()
    return dataclasses.replace(estimate, T_map_cam=T_map_cam, score=-1.0 if starts is None else starts[0, 0, 3].item())
localizer.Localizer.localize = localize
sys.exit(relocalize.main())
'''
LINE_M = 0.02
_NOISE = PIXELS // 8


def line_pixels(x_m):
    """What the camera sees at x_m on the line, from 0.4 to 4.8 m."""
    pixels = _NOISE + round(x_m / LINE_M - _NOISE.mean())
    assert pixels.min() >= 0 and pixels.max() <= 255
    return pixels.astype(np.uint8)


def camera_info_message(camera):
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model='plumb_bob', d=[0.0] * 5)
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


AS_INSTALLED = 'import sys; from aprloc_ros import relocalize; sys.exit(relocalize.main())'


def start_node(log_path, parameters, script=None, remappings=(), executable=False):
    """The node as its own process, logging to a file; script: Python that changes it before it runs.

    executable: from its first line on, as a robot starts it, and not from where its libraries are loaded already.
    """
    command = ['--ros-args']
    for name, value in parameters.items():
        command += ['-p', f'{name}:={value}']
    for remapping in remappings:
        command += ['-r', remapping]
    if not executable:
        return Forked(script or AS_INSTALLED, command, log_path)
    with open(log_path, 'wb') as log:
        return subprocess.Popen([sys.executable, '-m', 'aprloc_ros.relocalize', *command], stdout=log, stderr=subprocess.STDOUT)


def interrupt(process, times=1):
    """SIGINT so many times in a row -> exit code."""
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(PATIENCE_S)
    finally:
        process.kill()


@contextlib.contextmanager
def running_nodes(directory, peer, tiny_map):
    """Yields what starts a node with the tiny map, which publishes its first answer; each must leave quietly at the end."""
    running = []

    def start(script=None, remappings=(), executable=False, **parameters):
        peer.wait_for(lambda: not peer.hears_a_node(), 'the end of the node before')
        peer.forget()
        log = directory / f'node{len(running)}.log'
        defaults = {'map': 'tiny', 'map_dir': tiny_map.parent, 'device': 'cpu', 'reliability': 'reliable',
                    'diagnostics_period_s': 0.1, 'extrinsics': 'parameters', 'confirmations': 1}
        running.append((start_node(log, {**defaults, **parameters}, script, remappings, executable), log))
        return log

    start.process = lambda: running[-1][0]
    try:
        yield start
    finally:
        codes = [process.poll() if process.poll() is not None else interrupt(process) for process, _ in running]
    for code, (_, log) in zip(codes, running, strict=True):
        assert code == 0 and 'Traceback' not in log.read_text(), log.read_text()


class Peer:
    """Publishes to the node of its namespace and remembers its poses by stamp and its diagnostics."""

    def __init__(self, namespace=''):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('peer', context=self._context, namespace=namespace)
        self._name = f'{namespace}/relocalize'.lstrip('/')
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers, self._clients = {}, {}
        self.poses, self.full_poses, self.diagnostics, self.heard = {}, {}, deque(maxlen=1000), []
        self.statuses = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._node.create_subscription(
            String, 'relocalize/status', lambda message: self.statuses.append(message.data), latched)
        self._node.create_subscription(PoseStamped, 'pose', self._on_pose, 100)
        self._node.create_subscription(PoseWithCovarianceStamped, 'pose_with_covariance', self._on_full_pose, 100)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 100)
        for topic, message_type in (('image', Image), ('camera_info', CameraInfo), ('odom', Odometry),
                                    ('image/compressed', CompressedImage), ('initialpose', PoseWithCovarianceStamped)):
            self._publishers[topic] = self._node.create_publisher(message_type, topic, 100)

    def _on_pose(self, message):
        self.poses[stamp_ns(message.header.stamp)] = message
        self.heard.append(stamp_ns(message.header.stamp))

    def _on_full_pose(self, message):
        self.full_poses[stamp_ns(message.header.stamp)] = message

    def _on_diagnostics(self, message):
        self.diagnostics.extend(status for status in message.status if status.name == self._name)

    def forget(self):
        """Also what a node that has ended said last and has not been heard yet."""
        self.spin_for(0.3)
        for memory in (self.poses, self.full_poses, self.diagnostics, self.heard, self.statuses):
            memory.clear()
        for client in self._clients.values():
            self._node.destroy_client(client)
        self._clients.clear()

    def hears_a_node(self):
        return self._node.count_publishers('/diagnostics') > 0

    def close(self):
        self._node.destroy_node()
        self._context.try_shutdown()

    def publish(self, topic, message):
        self._publishers[topic].publish(message)

    def wait_for(self, condition, what):
        """Spin until the condition holds; fail with what was waited for and the last diagnostic."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            last = (self.diagnostics[-1].message, self.values()) if self.diagnostics else 'none'
            assert time.monotonic() < end_s, f'waited {PATIENCE_S} s for {what}; last diagnostic: {last}'
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, duration_s):
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=0.05)

    def wait_until_active(self, topic='image'):
        self.wait_for(lambda: all(self._publishers[t].get_subscription_count() == 1 for t in (topic, 'camera_info'))
                      and self.values().get('state') == 'active', 'an active node')

    def values(self):
        """Key-value pairs of the last diagnostic."""
        return {pair.key: pair.value for pair in self.diagnostics[-1].values} if self.diagnostics else {}

    def wait_for_diagnostic(self, condition, what):
        """The first diagnostic from now on for which the condition holds."""
        self.diagnostics.clear()
        self.wait_for(lambda: any(map(condition, self.diagnostics)), what)
        return next(filter(condition, self.diagnostics))

    def call(self, service_type, name, request, meanwhile=lambda: None):
        """The service's answer; meanwhile() is called again and again while it is awaited."""
        if name not in self._clients:
            self._clients[name] = self._known_client(service_type, name)
        future = self._clients[name].call_async(request)
        self.wait_for(lambda: future.done() or meanwhile(), f'an answer of {name}')
        return future.result()

    def _known_client(self, service_type, name):
        """A client that the node knows of: a server drops its answers to a reader that it has not found yet.

        Readers are announced in the order in which they are made: when one that was made later hears the node, it has
        found the client's.
        """
        client, heard = self._node.create_client(service_type, name), []
        self.wait_for(client.service_is_ready, f'the service {name}')
        later = self._node.create_subscription(
            DiagnosticArray, '/diagnostics', lambda message: heard.extend(s for s in message.status if s.name == self._name), 10)
        self.wait_for(lambda: heard, 'a diagnostic for a new reader')
        self._node.destroy_subscription(later)
        return client

    def trigger(self, name, meanwhile=lambda: None):
        return self.call(Trigger, f'relocalize/{name}', Trigger.Request(), meanwhile)

    def state(self):
        return self.call(GetState, 'relocalize/get_state', GetState.Request()).current_state.label

    def transition(self, label):
        """Whether it succeeded; then it has been heard, too: what was said before, on other topics, has come."""
        request = ChangeState.Request()
        request.transition.label = label
        success = self.call(ChangeState, 'relocalize/change_state', request).success
        if success and label in _LEADS_TO:
            self.wait_for(lambda: self.values().get('state') == _LEADS_TO[label], f'the diagnostic of {label}')
        if success and label == 'deactivate':
            self.wait_for(lambda: not self._publishers['image'].get_subscription_count(), 'the end of its subscriptions')
        return success

    def set_parameter(self, name, value):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, 'relocalize/set_parameters', request).results[0]


def frame_counts(peer):
    """Received, answered, superseded, rejected, of the node's last diagnostic."""
    return [int(peer.values().get(f'frames {key}', 0)) for key in ('received', 'answered', 'superseded', 'rejected')]


def assert_answers(peer, stamp=None):
    """The node still answers a good image, with the good image's stamp, which is returned.

    There is no order between two topics: an image that the node has before the camera_info is refused, and another is sent.
    """
    peer.publish('camera_info', camera_info_message(CAMERA))

    def refused():
        return int(peer.values().get('rejected: camera_info', 0))
    while True:
        stamp, before = stamp or next_stamp(), refused()
        peer.publish('image', image_message(PIXELS, stamp))
        peer.wait_for(lambda: (stamp in peer.poses and stamp in peer.full_poses) or refused() > before, 'the pose of a good image')   # noqa: B023
        if stamp in peer.poses:
            return stamp
        stamp = None
