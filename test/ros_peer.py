"""The other side of the node in its tests: starts it as a process, talks to it over DDS, remembers what it said."""

import array
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
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tiny_map import CAMERA

from aprloc_ros.ros_messages import stamp_ns

PATIENCE_S = 60.0
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


def camera_info_message(camera):
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model='plumb_bob', d=[0.0] * 5)
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def start_node(log_path, parameters, script=None):
    """The node as its own process, logging to a file; script: Python that changes it before it runs."""
    command = [sys.executable, *(['-c', script] if script else ['-m', 'aprloc_ros.relocalize']), '--ros-args']
    for name, value in parameters.items():
        command += ['-p', f'{name}:={value}']
    with open(log_path, 'wb') as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def interrupt(process, times=1):
    """SIGINT so many times in a row -> exit code."""
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(PATIENCE_S)
    finally:
        process.kill()


class Peer:
    """Publishes to the node and remembers its poses by stamp and its diagnostics."""

    def __init__(self):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('peer', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers = {}
        self.poses, self.full_poses, self.diagnostics, self.heard = {}, {}, deque(maxlen=1000), []
        self._node.create_subscription(PoseStamped, 'pose', self._on_pose, 100)
        self._node.create_subscription(PoseWithCovarianceStamped, 'pose_with_covariance', self._on_full_pose, 100)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 100)
        for topic, message_type in (('image', Image), ('camera_info', CameraInfo), ('odom', Odometry),
                                    ('image/compressed', CompressedImage)):
            self._publishers[topic] = self._node.create_publisher(message_type, topic, 100)

    def _on_pose(self, message):
        self.poses[stamp_ns(message.header.stamp)] = message
        self.heard.append(stamp_ns(message.header.stamp))

    def _on_full_pose(self, message):
        self.full_poses[stamp_ns(message.header.stamp)] = message

    def _on_diagnostics(self, message):
        self.diagnostics.extend(message.status)

    def forget(self):
        """Also what a node that has ended said last and has not been heard yet."""
        self.spin_for(0.3)
        for memory in (self.poses, self.full_poses, self.diagnostics, self.heard):
            memory.clear()

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

    def call(self, service_type, name, request):
        client = self._node.create_client(service_type, name)
        self.wait_for(client.service_is_ready, f'the service {name}')
        future = client.call_async(request)
        self.wait_for(future.done, f'an answer of {name}')
        self._node.destroy_client(client)
        return future.result()

    def state(self):
        return self.call(GetState, 'relocalize/get_state', GetState.Request()).current_state.label

    def transition(self, label):
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, 'relocalize/change_state', request).success

    def set_parameter(self, name, value):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, 'relocalize/set_parameters', request).results[0]


def frame_counts(peer):
    """Received, answered, superseded, rejected, of the node's last diagnostic."""
    return [int(peer.values().get(f'frames {key}', 0)) for key in ('received', 'answered', 'superseded', 'rejected')]


def assert_answers(peer):
    """The node still answers a good image, with the good image's stamp, which is returned."""
    stamp = next_stamp()
    peer.publish('camera_info', camera_info_message(CAMERA))
    peer.publish('image', image_message(PIXELS, stamp))
    peer.wait_for(lambda: stamp in peer.poses and stamp in peer.full_poses, 'the pose of a good image')
    return stamp
