"""An active node's frames: its subscriptions, the worker that answers the newest frame, and what it publishes."""

import threading
import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecyclePublisher
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from aprloc_ros.errors import AprlocError
from aprloc_ros.frames import Answer, FrameRejected, Setup, answer_frame
from aprloc_ros.geometry import invert
from aprloc_ros.ros_messages import pose_stamped, pose_with_covariance, stamp_ns, transform_stamped
from aprloc_ros.transforms import OdometryBuffer
from aprloc_ros.worker import FrameCounts, NewestFrameWorker, StampOrder

_LOG_EVERY_S = 5.0
_CAMERA_INFO_WAIT_S = 1.0   # how long a frame waits for the very first camera_info


class FrameStream:
    """Opened when the node becomes active. Callbacks hand frames over and return; the worker answers and publishes."""

    def __init__(self, node: Node, setup: Setup, pose: LifecyclePublisher, pose_with_covariance: LifecyclePublisher,
                 report: Callable[[], None]):
        """report is called, from any thread, when something worth a diagnostic happened."""
        self._node, self._setup, self._report = node, setup, report
        self._pose, self._pose_with_covariance = pose, pose_with_covariance
        self._counts, self._order = FrameCounts(), StampOrder()
        self._camera_info: CameraInfo | None = None
        self._has_camera_info = threading.Event()
        self._odometry = OdometryBuffer(setup.parameters.base_frame)
        self._tf_problem = ''
        self._timings: dict[str, str] = {}
        self._on_cpu_instead = setup.on_cpu_instead
        self._worker = NewestFrameWorker(self._answer, self._counts.supersede)
        self._subscriptions = self._subscribe()

    def close(self) -> None:
        """Stop listening, finish the frame in hand, drop the one that waits."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._worker.stop()

    def status(self) -> tuple[bytes, str, dict[str, str]]:
        """Level, text and values of a diagnostic."""
        values = {'map': self._setup.localizer.manifest.name, 'device': self._setup.localizer.device_name,
                  **self._counts.values(), **self._timings}
        if self._counts.rejected_last:
            return DiagnosticStatus.WARN, self._counts.last_rejection, values
        if self._setup.on_cpu_instead:
            return DiagnosticStatus.WARN, self._setup.on_cpu_instead, values
        if self._tf_problem:
            return DiagnosticStatus.WARN, f'no transform is published: {self._tf_problem}', values
        if not self._counts.received:
            return DiagnosticStatus.WARN, 'waiting for the first image', values
        return DiagnosticStatus.OK, 'localising', values

    def _subscribe(self) -> list:
        parameters, node = self._setup.parameters, self._node
        reliable = parameters.reliability == 'reliable'
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)
        # camera_info first: of two topics with messages, an executor serves the older subscription first.
        subscriptions = [node.create_subscription(CameraInfo, 'camera_info', self._on_camera_info, qos)]
        if parameters.publish_tf == 'map_to_odom':
            subscriptions.append(node.create_subscription(Odometry, 'odom', self._on_odometry, qos_profile_sensor_data))
        image_type, topic = Image, 'image'
        if parameters.image_transport == 'compressed':
            image_type, topic = CompressedImage, node.resolve_topic_name('image') + '/compressed'
        return [*subscriptions, node.create_subscription(image_type, topic, self._on_image, qos)]

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
        self._has_camera_info.set()

    def _on_odometry(self, message: Odometry) -> None:
        try:
            self._odometry.add(message)
        except AprlocError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=_LOG_EVERY_S)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._counts.receive()
        refusal = self._order.refusal(stamp_ns(message.header.stamp))
        if refusal:
            self._reject('stamp', refusal)
        else:
            self._worker.submit(message)

    # On the worker's thread.

    def _answer(self, image: Image | CompressedImage) -> None:
        if self._setup.parameters.require_camera_info:
            self._has_camera_info.wait(_CAMERA_INFO_WAIT_S)
        start_s = time.perf_counter()
        try:
            answer = answer_frame(image, self._camera_info, self._setup)
            self._publish(image.header, answer)
        except FrameRejected as rejection:
            self._reject(rejection.reason, rejection.text)
            return
        except Exception as error:  # noqa: BLE001  whatever fails in a driver or a library costs a frame, not the node
            self._reject('internal', f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}')
            return
        self._timings = {'localize ms': f'{answer.estimate.timings_ms["total"]:.1f}',
                         'answer ms': f'{1e3 * (time.perf_counter() - start_s):.1f}',
                         'score': f'{answer.estimate.score:.3f}'}
        self._counts.answer()
        self._say_if_on_cpu()

    def _publish(self, header: Header, answer: Answer) -> None:
        frame = self._setup.map_frame
        self._pose.publish(pose_stamped(header.stamp, frame, answer.T_map_base))
        self._pose_with_covariance.publish(
            pose_with_covariance(header.stamp, frame, answer.T_map_base, answer.covariance))
        self._publish_transform(header, answer)

    def _publish_transform(self, header: Header, answer: Answer) -> None:
        if self._setup.send_transform is None:
            return
        child, T_map_child = self._setup.parameters.base_frame, answer.T_map_base
        if self._setup.parameters.publish_tf == 'map_to_odom':
            try:
                child, T_odom_base = self._odometry.at(stamp_ns(header.stamp))
            except AprlocError as error:
                self._tf_problem = str(error)
                return
            T_map_child = answer.T_map_base @ invert(T_odom_base)
        self._tf_problem = ''
        self._setup.send_transform(transform_stamped(header.stamp, self._setup.map_frame, child, T_map_child))

    def _say_if_on_cpu(self) -> None:
        if self._setup.on_cpu_instead and not self._on_cpu_instead:
            self._on_cpu_instead = self._setup.on_cpu_instead
            self._node.get_logger().warning(self._on_cpu_instead)
            self._report()

    def _reject(self, reason: str, text: str) -> None:
        is_news = self._counts.reject(reason, text)
        self._node.get_logger().warning(f'frame rejected, {reason}: {text}', throttle_duration_sec=_LOG_EVERY_S)
        if is_news:
            self._report()
