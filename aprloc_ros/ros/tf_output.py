"""The transform that places the robot on the map: map->odom, steadily, or map->base with each answer."""

import threading
from collections.abc import Callable

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from torch import Tensor

from aprloc_ros.geometry import invert
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.ros.messages import time_message, transform_stamped
from aprloc_ros.ros.odometry import OdometryPose
from aprloc_ros.ros.parameters import NodeParameters


class TfOutput:
    """Sends transforms of an active node. map->odom (REP-105) changes slowly, so it is sent again between answers."""

    def __init__(self, node: Node, parameters: NodeParameters, map_frame: str,
                 send: Callable[[TransformStamped], None]):
        self.parameters = parameters   # may be replaced at any time
        self._node, self._map_frame, self._send = node, map_frame, send
        self._lock = threading.Lock()
        self._map_to_odom: tuple[str, Tensor] | None = None
        # From the images' stamps to the node's clock: not zero when an old bag is played, unknown before a simulation's clock runs.
        self._behind_ns: int | None = None
        self._sent_ns = 0
        self._timer = None
        if parameters.publish_tf == 'map_to_odom' and parameters.tf_rate_hz > 0:
            self._timer = node.create_timer(1 / parameters.tf_rate_hz, self._send_again)

    def close(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)

    def forget(self) -> None:
        """Time was set back, or odometry began anew: send nothing until the next answer."""
        with self._lock:
            self._map_to_odom, self._sent_ns = None, 0

    def update(self, stamp: Time, arrived_ns: int, T_map_base: Tensor, odometry: OdometryPose | None) -> None:
        """The robot is at T_map_base [4, 4] at the image's stamp; arrived_ns: the node's clock when the image came."""
        if self.parameters.publish_tf == 'map_to_base':
            self._send(transform_stamped(stamp, self._map_frame, self.parameters.base_frame, T_map_base))
        elif odometry is not None:
            with self._lock:
                self._map_to_odom = odometry.frame_id, T_map_base @ invert(odometry.T_odom_base)
                self._behind_ns = arrived_ns - stamp_ns(stamp) if arrived_ns > 0 else None
                if self._timer is None or self._behind_ns is None:
                    self._send_map_to_odom(stamp_ns(stamp))
            if self._timer is not None:
                self._send_again()

    def _send_again(self) -> None:
        with self._lock:
            if self._map_to_odom is not None and self._behind_ns is not None:
                self._send_map_to_odom(self._node.get_clock().now().nanoseconds - self._behind_ns)

    def _send_map_to_odom(self, time_ns: int) -> None:
        ahead_ns = time_ns + round(1e9 * self.parameters.transform_tolerance_s)
        if ahead_ns == self._sent_ns:
            return   # a simulation's clock stands still; TF complains of repeated stamps
        self._sent_ns = ahead_ns
        odom_frame, T_map_odom = self._map_to_odom
        self._send(transform_stamped(time_message(ahead_ns), self._map_frame, odom_frame, T_map_odom))
