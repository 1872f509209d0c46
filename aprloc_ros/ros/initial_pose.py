"""The topic `initialpose`: where somebody says the robot is, and where we say so to AMCL or Nav2."""

from collections import deque
from collections.abc import Callable

import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.message_fields import rigid_transform
from aprloc_ros.ros.messages import covariance_in_base_axes

TOPIC = 'initialpose'
# What RViz and AMCL take for a first guess: half a metre, 15 degrees.
_POSITION_VARIANCE, _ROTATION_VARIANCE = 0.25, 0.0685
_REMEMBERED = 10


class InitialPose:
    """Listens on the topic and publishes there; what it published itself it does not hear."""

    def __init__(self, node: Node, map_frame: str, on_pose: Callable[[Tensor, Tensor], None]):
        """on_pose: called with T_map_base [4, 4] and the covariance [6, 6] in the axes of base."""
        self._node, self._map_frame, self._on_pose = node, map_frame, on_pose
        self._published = deque(maxlen=_REMEMBERED)
        self._publisher = node.create_publisher(PoseWithCovarianceStamped, TOPIC, 1)
        self._subscription = node.create_subscription(PoseWithCovarianceStamped, TOPIC, self._on_message, 10)

    @property
    def topic(self) -> str:
        """Its full name."""
        return self._publisher.topic_name

    def close(self) -> None:
        """Neither listen nor publish any more."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)

    def publish(self, message: PoseWithCovarianceStamped) -> None:
        """Say it once."""
        self._published.append(message)
        self._publisher.publish(message)

    def _on_message(self, message: PoseWithCovarianceStamped) -> None:
        if message in self._published:
            return
        try:
            T_map_base, covariance = stated_pose(message, self._map_frame)
        except AprlocError as error:
            self._node.get_logger().warning(str(error))
            return
        x, y, z = T_map_base[:3, 3].tolist()
        self._node.get_logger().info(f'{TOPIC}: the robot is said to be at {x:.2f} {y:.2f} {z:.2f}')
        self._on_pose(T_map_base, covariance)


def stated_pose(message: PoseWithCovarianceStamped, map_frame: str) -> tuple[Tensor, Tensor]:
    """T_map_base [4, 4] and its covariance [6, 6] of xi in T_true = T_map_base @ exp(xi).

    An axis without a variance was not stated (RViz states x, y and yaw alone), so it gets the mean of its neighbours.
    Raises AprlocError for another frame than map_frame, for what is no pose, and for what is no covariance.
    """
    if message.header.frame_id.strip('/') != map_frame:
        raise AprlocError(f'{TOPIC} is ignored: it is in the frame {message.header.frame_id[:80]!r}, not in {map_frame!r}')
    pose = message.pose.pose
    T_map_base = rigid_transform(pose.position, pose.orientation, TOPIC)
    stated = torch.tensor(message.pose.covariance, dtype=torch.float64).reshape(6, 6)
    variance = torch.diagonal(stated)
    filled = torch.cat([_filled(variance[:3], _POSITION_VARIANCE), _filled(variance[3:], _ROTATION_VARIANCE)])
    covariance = (stated + stated.T) / 2 + torch.diag(filled - variance)
    if not torch.isfinite(covariance).all() or torch.linalg.eigvalsh(covariance)[0] <= 0:
        raise AprlocError(f'{TOPIC} is ignored: its covariance is not positive definite')
    return T_map_base, covariance_in_base_axes(covariance, T_map_base)


def _filled(variance: Tensor, default: float) -> Tensor:
    """Variances [3], those that are zero replaced by the mean of the others, or by the default if all are zero."""
    stated = variance[variance != 0]
    return torch.where(variance != 0, variance, stated.mean() if len(stated) else torch.tensor(default).double())
