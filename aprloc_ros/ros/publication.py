"""Where a believed answer goes: the pose's topics, the transform, the place on Earth."""

import dataclasses

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecyclePublisher
from rclpy.node import Node
from std_msgs.msg import Header

from aprloc_ros.covariance import to_base
from aprloc_ros.geometry import invert
from aprloc_ros.ros.frames import Setup
from aprloc_ros.ros.messages import pose_stamped, pose_with_covariance
from aprloc_ros.ros.odometry import OdometryPose
from aprloc_ros.ros.parameters import NodeParameters
from aprloc_ros.ros.tf_output import TfOutput
from aprloc_ros.tracking.answer import Answer


class Publication:
    """Of an active node; publish() is called from the worker's thread."""

    def __init__(self, node: Node, setup: Setup, pose: LifecyclePublisher, pose_with_covariance: LifecyclePublisher):
        self._setup, self._pose, self._pose_with_covariance = setup, pose, pose_with_covariance
        self.last: PoseWithCovarianceStamped | None = None
        self._tf = None
        if setup.send_transform is not None:
            self._tf = TfOutput(node, setup.parameters, setup.map_frame, setup.send_transform)

    @property
    def needs_odometry(self) -> bool:
        """Whether nothing can be transformed without it."""
        return self._tf is not None and self._setup.parameters.publish_tf == 'map_to_odom'

    def publish(self, header: Header, arrived_ns: int, answer: Answer, odometry: OdometryPose | None) -> None:
        """header: of the image, which arrived_ns on the node's clock."""
        setup, T_map_base = self._setup, answer.T_map_base
        self._pose.publish(pose_stamped(header.stamp, setup.map_frame, T_map_base))
        T_map_cam = answer.estimate.T_map_cam
        by_scale = setup.localizer.manifest.frame.scale_covariance(T_map_cam)
        covariance = answer.covariance + to_base(by_scale, invert(T_map_cam) @ T_map_base)
        self.last = pose_with_covariance(header.stamp, setup.map_frame, T_map_base, covariance)
        self._pose_with_covariance.publish(self.last)
        if setup.send_geopose is not None:
            setup.send_geopose(header.stamp, setup.map_frame, T_map_base)
        if self._tf is not None:
            self._tf.update(header.stamp, arrived_ns, T_map_base, odometry)

    def retune(self, parameters: NodeParameters) -> None:
        """Go on with other live parameters."""
        self._setup = dataclasses.replace(self._setup, parameters=parameters)
        if self._tf is not None:
            self._tf.parameters = parameters

    def forget(self) -> None:
        """The transform, after time was set back or odometry began anew."""
        if self._tf is not None:
            self._tf.forget()

    def close(self) -> None:
        if self._tf is not None:
            self._tf.close()
