"""What an active node listens to: camera_info, odometry and images."""

import math
import threading
from collections.abc import Callable

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.camera_info import is_calibrated, pair_numbers
from aprloc_ros.recordings.camera_infos import CameraInfos
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.ros.clocks import THROTTLED
from aprloc_ros.ros.listener import Listener
from aprloc_ros.ros.odometry import OdometryBuffer, OdometrySource
from aprloc_ros.ros.parameters import NodeParameters

_BESIDE_M = 1e-3            # less is a rounding
_CAMERA_INFO_WAIT_S = 1.0   # how long a frame waits for the very first camera_info
# Messages that may wait for the callbacks on a busy machine: a second of images at 30 Hz. What overflows is lost to the
# counts; what is taken is superseded at once by what is newer.
_QUEUE = 30


class Inputs:
    """Subscriptions. Keeps camera_infos, fills the odometry's buffer, hands images on."""

    def __init__(self, node: Node, parameters: NodeParameters, odometry: OdometrySource | None,
                 on_image: Callable[[Image | CompressedImage], None], on_new_odometry: Callable[[str], None]):
        """on_new_odometry: told why odometry begins anew, its poses from before lead to nothing that comes."""
        self._node, self._parameters, self._on_new_odometry = node, parameters, on_new_odometry
        self._camera_info: CameraInfo | None = None   # the newest
        self._camera_infos = CameraInfos()
        self._has_camera_info = threading.Event()
        reliable = parameters.reliability == 'reliable'
        qos = QoSProfile(depth=_QUEUE,
                         reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)
        # camera_info first: of two topics with messages, an executor serves the older subscription first.
        self._camera_info_topic = Listener(node, 'camera_info', CameraInfo, 'camera_info', self._on_camera_info, qos)
        self._odometry = odometry if isinstance(odometry, OdometryBuffer) else None
        self._odometry_topic, self._odometry_refusal = None, ''
        if self._odometry is not None:
            self._odometry_topic = Listener(node, 'odometry', Odometry, 'odom', self._on_odometry,
                                            qos_profile_sensor_data)
        image_type, topic = Image, 'image'
        if parameters.image_transport == 'compressed':
            image_type, topic = CompressedImage, node.resolve_topic_name('image') + '/compressed'
        self.images = Listener(node, 'image', image_type, topic, on_image, qos)
        listeners = {'image': self.images, 'camera_info': self._camera_info_topic, 'odometry': self._odometry_topic}
        self._listeners = {name: listener for name, listener in listeners.items() if listener is not None}

    def described(self) -> dict[str, str]:
        """What is listened to -> topic, type and QoS."""
        return {name: listener.described for name, listener in self._listeners.items()}

    def mixtures(self) -> list[str]:
        """The topics that several nodes publish, each in words."""
        return [words for words in (listener.mixture() for listener in self._listeners.values()) if words]

    def close(self) -> None:
        """Stop listening."""
        for topic in self._listeners.values():
            topic.close()

    def forget(self) -> None:
        """What moved: time was set back."""
        if self._odometry is not None:
            self._odometry.forget()

    def camera_info(self, image: Header) -> CameraInfo | None:
        """That of an image's stamp, else the newest; waits for the very first where one is needed. Raises AprlocError if it
        does not come. None, for the map's own camera, where none is needed and none has come, or one of no calibration.
        """
        if self._parameters.require_camera_info and not self._has_camera_info.wait(_CAMERA_INFO_WAIT_S):
            raise AprlocError(f'none has arrived: {self._camera_info_topic.silence()}; publish it, or set the parameter '
                              'require_camera_info to false to use the camera of the map')
        info = self._camera_infos.of(stamp_ns(image.stamp), self._camera_info)
        if info and not (self._parameters.require_camera_info or is_calibrated(info, self._parameters.rectified)):
            return None
        theirs, its = (header.frame_id.strip('/')[:80] for header in (image, info.header if info else image))
        if theirs and its and theirs != its:
            self._node.get_logger().warning(f'the images are of the frame {theirs!r}, camera_info of {its!r}: another camera\'s?',
                                            once=True)
        beside_m = math.hypot(*pair_numbers(info)[1]) if info else 0.0
        if beside_m > _BESIDE_M:
            self._node.get_logger().warning(
                f'camera_info is of the second camera of a stereo pair, {beside_m:.3f} m beside the first by its P: {its!r} must be a frame of '
                'its own in TF, not that of the first, or every pose is off by as much', once=True)
        return info

    def odometry_problem(self) -> str:
        """Why the topic of odometry says nothing, or nothing of use; empty while it does, and where it is not listened to."""
        silence = '' if self._odometry_topic is None else self._odometry_topic.silence()
        return silence or self._odometry_refusal

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
        self._camera_infos.add(message)
        self._has_camera_info.set()

    def _on_odometry(self, message: Odometry) -> None:
        try:
            break_ = self._odometry.add(message)
        except AprlocError as error:
            self._odometry_refusal = str(error)
            self._node.get_logger().warning(self._odometry_refusal, **THROTTLED)
            return
        self._odometry_refusal = ''
        if break_:
            self._on_new_odometry(break_)
