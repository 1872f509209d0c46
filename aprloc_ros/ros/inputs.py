"""What an active node listens to: camera_info, odometry and images."""

import threading
from collections.abc import Callable

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from aprloc_ros.errors import AprlocError
from aprloc_ros.ros.odometry import OdometryBuffer, OdometrySource
from aprloc_ros.ros.parameters import NodeParameters

_LOG_EVERY_S = 5.0
# Messages that may wait for the callbacks on a busy machine: a second of images at 30 Hz. What overflows is lost to the
# counts; what is taken is superseded at once by what is newer.
_QUEUE = 30


class Inputs:
    """Subscriptions. Keeps the newest camera_info, fills the odometry's buffer, hands images on."""

    def __init__(self, node: Node, parameters: NodeParameters, odometry: OdometrySource | None,
                 on_image: Callable[[Image | CompressedImage], None]):
        self._node, self._odometry = node, odometry
        self._camera_info: CameraInfo | None = None
        self._has_camera_info = threading.Event()
        reliable = parameters.reliability == 'reliable'
        qos = QoSProfile(depth=_QUEUE,
                         reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)
        # camera_info first: of two topics with messages, an executor serves the older subscription first.
        self._subscriptions = [node.create_subscription(CameraInfo, 'camera_info', self._on_camera_info, qos)]
        if isinstance(odometry, OdometryBuffer):
            self._subscriptions.append(
                node.create_subscription(Odometry, 'odom', self._on_odometry, qos_profile_sensor_data))
        image_type, topic = Image, 'image'
        if parameters.image_transport == 'compressed':
            image_type, topic = CompressedImage, node.resolve_topic_name('image') + '/compressed'
        self._subscriptions.append(node.create_subscription(image_type, topic, on_image, qos))

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def camera_info(self, wait_s: float) -> CameraInfo | None:
        """The newest; waits so long for the very first."""
        self._has_camera_info.wait(wait_s)
        return self._camera_info

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
        self._has_camera_info.set()

    def _on_odometry(self, message: Odometry) -> None:
        try:
            self._odometry.add(message)
        except AprlocError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=_LOG_EVERY_S)
