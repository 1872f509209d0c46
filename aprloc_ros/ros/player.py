"""Plays a bag over real DDS into a `relocalize` node, and records what it answers."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Pose, PoseStamped, PoseWithCovarianceStamped
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_messages import CAMERA_INFO, IMAGE
from aprloc_ros.recordings.bags import read_raw
from aprloc_ros.recordings.message_fields import rigid_transform, stamp_ns

_RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# DDS matches the answers' topics on its own time.
_AFTER_MATCH_S = 0.5
_ACKNOWLEDGE = Duration(seconds=5)
_SLICE_S = 0.1   # longest wait in one call of rclpy: how soon a Ctrl-C or the node's death is noticed


@dataclass(frozen=True)
class Answer:
    """One published PoseWithCovarianceStamped."""

    T_map_base: Tensor   # [4, 4] float64
    covariance: Tensor   # [6, 6] float64, about the map's axes (geometry_msgs/PoseWithCovariance)
    latency_s: float     # from the image's sending to the pose's arrival


@dataclass(frozen=True)
class Playback:
    """What came of the images of a bag. Keys are stamps in nanoseconds."""

    sent: int
    answers: dict[int, Answer]
    poses: dict[int, Tensor]      # [4, 4] of the PoseStamped topic
    diagnostics: dict[str, str]   # the node's last words about its frames

    @property
    def rejected(self) -> int:
        return int(self.diagnostics.get('frames rejected', 0))

    @property
    def rejected_for(self) -> dict[str, int]:
        """Reason -> frames."""
        prefix = 'rejected: '
        return {key.removeprefix(prefix): int(value) for key, value in self.diagnostics.items() if key.startswith(prefix)}

    @property
    def superseded(self) -> int:
        return int(self.diagnostics.get('frames superseded', 0))


def play(bag: Path, rate: float = 1.0, match_timeout_s: float = 180.0, settle_s: float = 15.0,
         check_alive: Callable[[], None] = lambda: None, on_sent: Callable[[int], None] | None = None,
         pid: int | None = None) -> Playback:
    """Publish the bag's `image` and `camera_info` at `rate` times its pace and record the node's answers.

    Waits until an active node listens. check_alive() may raise to stop. on_sent(count) is called after each image.
    pid: of the node; None: whoever calls itself so. Returns when every frame is accounted for or nothing was heard for
    settle_s. Raises AprlocError for a bag without images, if no node is found within match_timeout_s, and if there is
    another one or another source of images.
    """
    if not 0 < rate <= 100:
        raise AprlocError(f'rate {rate} is outside 0 to 100')
    if next(read_raw(bag, 'image', IMAGE), None) is None:
        raise AprlocError(f'{bag}: the topic image holds no message')
    with _interrupt_between_calls() as check_interrupt:
        def check() -> None:
            check_interrupt()
            check_alive()

        context = rclpy.Context()
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        try:
            player = _Player(context, check, pid)
            player.wait_for_node(match_timeout_s)
            player.send(bag, rate, on_sent)
            player.settle(settle_s)
            return player.playback()
        finally:
            context.try_shutdown()


@contextlib.contextmanager
def _interrupt_between_calls() -> Iterator[Callable[[], None]]:
    """Yields what raises KeyboardInterrupt after a Ctrl-C.

    Python would raise it inside rclpy, whose binding makes a RuntimeError of an interrupt in a message's conversion.
    """
    presses = []   # not an Event: its lock would be taken twice where a second signal interrupts the first one's handler

    def check() -> None:
        if presses:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():   # only the main thread is ever interrupted
        yield check
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: presses.append(number))
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


class _Player:
    def __init__(self, context: rclpy.Context, check: Callable[[], None], pid: int | None):
        self._check, self._pid, self._stranger = check, pid, ''
        self._node = rclpy.create_node('aprloc_player', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._image = self._node.create_publisher(Image, 'image', _RELIABLE)
        self._camera_info = self._node.create_publisher(CameraInfo, 'camera_info', _RELIABLE)
        self._node.create_subscription(PoseWithCovarianceStamped, 'pose_with_covariance', self._on_answer, _RELIABLE)
        self._node.create_subscription(PoseStamped, 'pose', self._on_pose, _RELIABLE)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, _RELIABLE)
        self._sent_at_s, self._answers, self._poses, self._diagnostics = {}, {}, {}, {}
        self._problem, self._heard_at_s = '', time.perf_counter()

    def wait_for_node(self, timeout_s: float) -> None:
        end_s = time.perf_counter() + timeout_s
        while not self._node_listens():
            self._check()
            self._refuse_company()
            if self._problem:
                raise AprlocError(f'the node is {self._diagnostics.get("state")}: {self._problem}')
            if time.perf_counter() > end_s:
                raise AprlocError(f'no active relocalize node listens to image and camera_info after {timeout_s:g} s; '
                                  'see its log, and whether ROS_DOMAIN_ID is the same')
            self._executor.spin_once(timeout_sec=_SLICE_S)
        self._spin_until(time.perf_counter() + _AFTER_MATCH_S)
        self._refuse_company()

    def _refuse_company(self) -> None:
        """Raises AprlocError where somebody else would hear what is played, or be taken for the node."""
        doubled = [topic for topic in ('image', 'camera_info', 'pose', 'pose_with_covariance')
                   if self._node.count_publishers(topic) > 1]
        if self._stranger or doubled:
            who = self._stranger or f'somebody else publishes {self._node.resolve_topic_name(doubled[0])}'
            raise AprlocError(f'{who} in this ROS domain: nothing is played to a robot; stop it, or play in another domain')

    def _node_listens(self) -> bool:
        return (self._diagnostics.get('state') == 'active' and self._image.get_subscription_count() > 0
                and self._camera_info.get_subscription_count() > 0
                and all(self._node.count_publishers(topic) for topic in ('pose', 'pose_with_covariance')))

    def send(self, bag: Path, rate: float, on_sent: Callable[[int], None] | None) -> None:
        infos = {message.stamp_ns: message.data for message in read_raw(bag, 'camera_info', CAMERA_INFO)}
        for data in list(infos.values())[:1]:   # the first image must not overtake the first camera_info
            self._camera_info.publish(data)
            self._camera_info.wait_for_all_acked(_ACKNOWLEDGE)
        start_s = time.perf_counter()
        for message in read_raw(bag, 'image', IMAGE):
            self._spin_until(start_s + message.time_s / rate)
            self._refuse_company()   # which may have come, or was found late
            if message.stamp_ns in infos:
                self._camera_info.publish(infos[message.stamp_ns])
            self._sent_at_s[message.stamp_ns] = time.perf_counter()
            self._image.publish(message.data)
            if on_sent:
                on_sent(len(self._sent_at_s))

    def settle(self, quiet_s: float) -> None:
        self._heard_at_s = time.perf_counter()
        while time.perf_counter() < self._heard_at_s + quiet_s and not self._all_accounted():
            self._check()
            self._executor.spin_once(timeout_sec=_SLICE_S)

    def playback(self) -> Playback:
        return Playback(len(self._sent_at_s), self._answers, self._poses, self._diagnostics)

    def _all_accounted(self) -> bool:
        known = self.playback()
        return (len(known.answers) + known.rejected + known.superseded >= known.sent
                and len(known.poses) >= len(known.answers))

    def _spin_until(self, time_s: float) -> None:
        self._check()
        while (left_s := time_s - time.perf_counter()) > 0:
            self._executor.spin_once(timeout_sec=min(left_s, _SLICE_S))
            self._check()

    def _on_answer(self, message: PoseWithCovarianceStamped) -> None:
        self._heard_at_s = time.perf_counter()
        sent = stamp_ns(message.header.stamp)
        if sent in self._sent_at_s:
            covariance = torch.tensor(message.pose.covariance, dtype=torch.float64).reshape(6, 6)
            self._answers[sent] = Answer(_T(message.pose.pose), covariance, self._heard_at_s - self._sent_at_s[sent])

    def _on_pose(self, message: PoseStamped) -> None:
        if stamp_ns(message.header.stamp) in self._sent_at_s:
            self._poses[stamp_ns(message.header.stamp)] = _T(message.pose)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if status.name.rpartition('/')[2] != 'relocalize':
                continue
            if self._pid is not None and values.get('pid') != str(self._pid):
                self._stranger = f'there is another relocalize node, {status.name},'
            else:
                self._diagnostics = values
                self._problem = status.message if status.level == DiagnosticStatus.ERROR else ''


def _T(message: Pose) -> Tensor:
    return rigid_transform(message.position, message.orientation, 'published pose')
