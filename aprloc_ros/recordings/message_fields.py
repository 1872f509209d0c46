"""Fields of ROS messages to the project's own types, whoever made the messages: rclpy or a bag's reader. Without ROS."""

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import check_pose, pose, quaternion_to_rotation


def stamp_ns(stamp) -> int:
    """builtin_interfaces/Time -> nanoseconds since the clock's zero."""
    return stamp.sec * 10**9 + stamp.nanosec


def rigid_transform(xyz, q, where: str) -> Tensor:
    """A message's point or vector and its quaternion -> [4, 4] float64. AprlocError naming `where` if not a pose."""
    quaternion = torch.tensor([q.w, q.x, q.y, q.z], dtype=torch.float64)
    length = quaternion.norm().item()
    if not 0.9 < length < 1.1:
        raise AprlocError(f'{where}: the quaternion has length {length:.3g}; it must be 1')
    translation = torch.tensor([xyz.x, xyz.y, xyz.z], dtype=torch.float64)
    return check_pose(pose(quaternion_to_rotation(quaternion), translation), where)


def covariance_about_map_axes(covariance: Tensor, T_map_base: Tensor) -> Tensor:
    """The covariance in ROS' meaning (geometry_msgs/PoseWithCovariance): order x y z, rotation about X, Y, Z.

    covariance: [6, 6] of xi = (rho, phi) in T_true = T_map_base @ exp(xi), in the axes of base -> [6, 6] of the error of
    position along the map's axes and of the rotation about the map's fixed axes. With R = R_map_base, to first order
    p_true = p + R rho and R_true = R exp(phi) = exp(R phi) R, so both halves turn by R and, unlike under the adjoint,
    the distance from the map's origin does not enter.
    """
    R = torch.block_diag(T_map_base[:3, :3], T_map_base[:3, :3])
    turned = R @ covariance @ R.T
    return (turned + turned.T) / 2
