"""An active node's frames: the worker that answers the newest one, what is believed of it, and what is published."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecyclePublisher
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from torch import Tensor

from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.ros.announcement import announcement
from aprloc_ros.ros.clocks import STEADY, THROTTLED
from aprloc_ros.ros.frame_order import FrameOrder
from aprloc_ros.ros.frames import Setup, read_picture
from aprloc_ros.ros.initial_pose import InitialPose
from aprloc_ros.ros.inputs import Inputs
from aprloc_ros.ros.listener import QUIET_S
from aprloc_ros.ros.messages import pose_in_words
from aprloc_ros.ros.odometry import OdometryAtImage
from aprloc_ros.ros.parameters import NodeParameters
from aprloc_ros.ros.publication import Publication
from aprloc_ros.ros.rate import CameraRate
from aprloc_ros.ros.services import Outcome, PendingCalls
from aprloc_ros.ros.worker import FrameCounts, NewestFrameWorker
from aprloc_ros.tracking.answer import FrameRejected, answer_picture, rejecting
from aprloc_ros.tracking.tracker import LOCALIZED, LOST, SEARCHING, Tracker

_OLDEST_GUESS_S = 10.0  # as far back as TF remembers: who takes an older pose knows not how far the robot has gone since
_WATCH_PERIOD_S = 0.1   # between two looks for a robot that is lost and for calls that waited too long


@dataclass(frozen=True, eq=False)
class _Frame:
    image: Image | CompressedImage
    arrived_ns: int    # on the node's clock
    arrived_s: float   # on time.perf_counter()


class FrameStream:
    """Opened when the node becomes active. Callbacks hand frames over and return; the worker answers and publishes."""

    def __init__(self, node: Node, setup: Setup, pose: LifecyclePublisher, pose_with_covariance: LifecyclePublisher,
                 report: Callable[[], None]):
        """report is called, from any thread, when something worth a diagnostic happened."""
        self._node, self._setup, self._report = node, setup, report
        self._publication = Publication(node, setup, pose, pose_with_covariance)
        self._counts, self._calls = FrameCounts(), PendingCalls()
        self._order = FrameOrder(node, self._start_anew)
        self._tracker = Tracker(setup.parameters)
        self._state = self._tracker.state   # as it was reported last
        self._odometry = OdometryAtImage(setup.odometry, setup.map_frame, setup.parameters.base_frame, self._on_new_odometry)
        self._said = {'cpu': setup.on_cpu_instead, 'contradiction': '', 'delay': ''}   # as it was reported last
        self._facts: dict[str, str] = {}    # of the last pose
        self._oldest_ms = 0.0
        self._rate = CameraRate()
        self._good_ns = 0                                     # the node's clock at the last pose
        self._initial_pose = InitialPose(node, setup.map_frame, self._expect)
        # A call waits no longer while a simulation's clock stands still.
        self._watch = node.create_timer(_WATCH_PERIOD_S, self._look_after, clock=STEADY)
        self._worker = NewestFrameWorker(self._answer, self._counts.supersede)
        self._inputs = Inputs(node, setup.parameters, setup.odometry, self._on_image, self._on_new_odometry)

    @property
    def state(self) -> str:
        """'searching', 'localized' or 'lost'."""
        return self._tracker.state

    def announce(self) -> None:
        """Say in the log what is waited for and what will be published."""
        for line in announcement(self._node, self._setup, self._inputs.described()):
            self._node.get_logger().info(line)

    def close(self) -> None:
        """Stop listening, finish the frame in hand, drop the one that waits."""
        self._order.close()
        self._inputs.close()
        self._node.destroy_timer(self._watch)
        self._worker.stop()
        self._initial_pose.close()
        self._publication.close()
        self._calls.settle(Outcome(False, 'the node was deactivated'))

    def retune(self, parameters: NodeParameters) -> None:
        """Go on with other live parameters."""
        self._setup = dataclasses.replace(self._setup, parameters=parameters)
        self._tracker.options = parameters
        self._publication.retune(parameters)

    def relocalize(self) -> Future:
        """Forget the robot's pose and find it anew -> the Outcome to come."""
        self._tracker.search()
        call = self._calls.add(self._setup.parameters.relocalize_timeout_s)
        self._say_state()
        return call

    def publish_initialpose(self) -> Outcome:
        """Tell AMCL or Nav2 the last pose, once."""
        last, age_s = self._publication.last, (self._now_ns() - self._good_ns) / 1e9
        if self.state != LOCALIZED or last is None or age_s > _OLDEST_GUESS_S:
            why = f'the robot is {self.state}' if self.state != LOCALIZED else f'the last pose is {age_s:.0f} s old'
            return Outcome(False, f'{why}: there is no pose to publish; wait, or call '
                           f'{self._node.resolve_service_name("~/relocalize")}')
        self._initial_pose.publish(last)
        return Outcome(True, f'published on {self._initial_pose.topic}: {pose_in_words(last)}')

    def status(self) -> tuple[bytes, str, dict[str, str]]:
        """Level, text and values of a diagnostic."""
        values = {'status': self.state, 'map': self._setup.localizer.manifest.name,
                  'device': self._setup.localizer.device_name, **self._counts.values(), **self._facts}
        if self._rate.problem:
            values['pace'] = self._rate.problem
        silence = self._inputs.images.silence()
        if self._tracker.contradiction and not silence:
            return DiagnosticStatus.WARN, self._tracker.contradiction, values
        if self.state == LOST:
            return DiagnosticStatus.WARN, f'lost; {self._why_no_pose(self._setup.parameters.lost_after_s)}', values
        if silence:
            waiting = '' if self._counts.received else 'waiting for the first image: '
            return DiagnosticStatus.WARN, waiting + silence, values
        if self._counts.rejected_last:
            return DiagnosticStatus.WARN, '; '.join([self._counts.last_rejection, *self._inputs.mixtures()]), values
        if self._setup.on_cpu_instead or self._tracker.stamp_delay.problem:
            return DiagnosticStatus.WARN, self._setup.on_cpu_instead or self._tracker.stamp_delay.problem, values
        if self._odometry.problem and self._publication.needs_odometry:
            why = self._inputs.odometry_problem() or self._odometry.problem
            return DiagnosticStatus.WARN, f'no transform is published: {why}', values
        return DiagnosticStatus.OK, self.state, values

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._setup.parameters.mode == 'one_shot' and not self._calls:
            return
        self._counts.receive()
        self._rate.arrive(time.perf_counter())
        refusal = self._order.refusal(stamp_ns(message.header.stamp))
        if refusal:
            self._reject('stamp', refusal)
        else:
            self._worker.submit(_Frame(message, self._now_ns(), time.perf_counter()))

    def _expect(self, T_map_base: Tensor, covariance: Tensor) -> None:
        self._tracker.expect(T_map_base, covariance)
        self._say_state()

    def _on_new_odometry(self, why: str) -> None:
        self._node.get_logger().warning(f'{why}; no transform is published until the next answer', **THROTTLED)
        self._tracker.forget_odometry()
        self._publication.forget()

    def _start_anew(self) -> None:
        if self.state != SEARCHING:
            self._node.get_logger().info('time was set back: searching anew')
        self._tracker.search()
        self._inputs.forget()
        if self._setup.transforms is not None:
            self._setup.transforms.forget()
        self._publication.forget()
        self._say_state()

    def _look_after(self) -> None:
        parameters = self._setup.parameters
        self._good_ns = min(self._good_ns, self._now_ns())   # the clock may have been set back
        unseen_s = (self._now_ns() - self._good_ns) / 1e9
        if self._state == LOCALIZED and parameters.mode == 'continuous' and unseen_s > parameters.lost_after_s:
            self._tracker.lose()
            self._say_state()
        self._calls.settle_overdue(lambda: Outcome(
            False, f'no pose within {parameters.relocalize_timeout_s:g} s: {self.state}; '
            f'{self._why_no_pose(parameters.relocalize_timeout_s)}'))

    def _why_no_pose(self, waited_s: float) -> str:
        last = f'the last rejection was {self._counts.last_rejection or "none"}'
        return self._inputs.images.silence(min(QUIET_S, waited_s)) or '; '.join([last, *self._inputs.mixtures()])

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds

    # On the worker's thread.

    def _answer(self, frame: _Frame) -> None:
        start_s = time.perf_counter()
        try:
            self._facts = self._localize(frame)
        except FrameRejected as rejection:
            self._reject(rejection.reason, rejection.text)
        except Exception as error:  # noqa: BLE001  whatever fails in a driver or a library costs a frame, not the node
            self._reject('internal', f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}')
        else:
            self._counts.answer()
        if self._rate.answer(time.perf_counter() - start_s):
            self._node.get_logger().warning(self._rate.problem)
        self._say_state()
        self._say_new('contradiction', self._tracker.contradiction)
        self._say_new('delay', self._tracker.stamp_delay.problem)
        self._say_new('cpu', self._setup.on_cpu_instead)

    def _localize(self, frame: _Frame) -> dict[str, str]:
        """Answer the frame and publish the pose, if it is believed -> what a diagnostic says of it."""
        setup, header = self._setup, frame.image.header
        with rejecting('camera_info'):
            info = self._inputs.camera_info(header)
        start_s = time.perf_counter()
        picture = read_picture(frame.image, info, setup, self._tracker.stamp_delay.seconds)
        decoded_s = time.perf_counter()
        answer = answer_picture(picture, stamp_ns(header.stamp) / 1e9, lambda delay_s: self._odometry.ask(header.stamp, delay_s),
                                setup.localizer, self._tracker)
        self._good_ns = self._now_ns()
        judged_s = time.perf_counter()
        self._publication.publish(header, frame.arrived_ns, answer, self._odometry.pose)
        end_s = time.perf_counter()
        if setup.display is not None:
            setup.display.show(picture.pixels, answer, header, picture.camera)
        if self.state == LOCALIZED:   # otherwise somebody called just now: the call is for the frames to come
            self._calls.settle(Outcome(True, pose_in_words(self._publication.last)))
        self._oldest_ms = max(self._oldest_ms, 1e3 * (end_s - frame.arrived_s))
        timings_ms = {'decode': 1e3 * (decoded_s - start_s), **answer.estimate.timings_ms,
                      'publish': 1e3 * (end_s - judged_s), 'answer': 1e3 * (end_s - start_s),
                      'age': 1e3 * (end_s - frame.arrived_s), 'age max': self._oldest_ms}
        return {'score': f'{answer.estimate.score:.3f}', 'answer by': answer.estimate.status,
                'refiner': answer.estimate.refiner,
                **{f'{name} ms': f'{value:.1f}' for name, value in timings_ms.items()}}

    # On any thread.

    def _say_state(self) -> None:
        before, self._state = self._state, self._tracker.state
        if self._state == before:
            return
        if self._state == LOST:
            self._node.get_logger().warning(self._state)
        else:
            self._node.get_logger().info(self._state)
        self._report()

    def _say_new(self, about: str, text: str) -> None:
        before, self._said[about] = self._said[about], text
        if text and not before:
            self._node.get_logger().warning(text)
            self._report()

    def _reject(self, reason: str, text: str) -> None:
        is_news = self._counts.reject(reason, text)
        self._node.get_logger().warning(f'frame rejected, {reason}: {text}', **THROTTLED)
        if is_news:
            self._report()
