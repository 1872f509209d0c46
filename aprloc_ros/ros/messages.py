"""ROS messages from the project's own types. The other way are the rooms of recordings."""

import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Pose, PoseStamped, PoseWithCovarianceStamped, TransformStamped
from std_msgs.msg import Header
from torch import Tensor

from aprloc_ros.geometry import rotation_to_quaternion
from aprloc_ros.recordings.message_fields import covariance_about_map_axes, stamp_ns


def time_message(time_ns: int) -> Time:
    """The inverse of stamp_ns."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    return Time(sec=seconds, nanosec=nanoseconds)


def time_before(stamp: Time, seconds: float) -> Time:
    """So many seconds earlier; later than zero, which TF takes for "the newest"."""
    return time_message(max(stamp_ns(stamp) - round(1e9 * seconds), 1)) if seconds else stamp


def pose_to_message(T_a_b: Tensor) -> Pose:
    """[4, 4] -> geometry_msgs/Pose."""
    message = Pose()
    message.position.x, message.position.y, message.position.z = T_a_b[:3, 3].tolist()
    orientation = message.orientation
    orientation.w, orientation.x, orientation.y, orientation.z = rotation_to_quaternion(T_a_b[:3, :3]).tolist()
    return message


def pose_stamped(stamp: Time, frame_id: str, T_map_base: Tensor) -> PoseStamped:
    """The pose [4, 4] of the robot in the frame frame_id."""
    return PoseStamped(header=Header(stamp=stamp, frame_id=frame_id), pose=pose_to_message(T_map_base))


def pose_with_covariance(stamp: Time, frame_id: str, T_map_base: Tensor, covariance: Tensor,
                         ) -> PoseWithCovarianceStamped:
    """The pose [4, 4] with covariance [6, 6] of xi in T_true = T_map_base @ exp(xi), in the axes of base."""
    message = PoseWithCovarianceStamped(header=Header(stamp=stamp, frame_id=frame_id))
    message.pose.pose = pose_to_message(T_map_base)
    message.pose.covariance = covariance_about_map_axes(covariance, T_map_base).flatten().tolist()
    return message


def pose_in_words(message: PoseWithCovarianceStamped) -> str:
    """Where, and how sure: x y z in metres, quaternion x y z w, standard deviations of x y z."""
    p, q, covariance = message.pose.pose.position, message.pose.pose.orientation, message.pose.covariance
    std_m = ' '.join(f'{covariance[index] ** 0.5:.3f}' for index in (0, 7, 14))
    return (f'localized at {p.x:.3f} {p.y:.3f} {p.z:.3f} m, quaternion {q.x:.4f} {q.y:.4f} {q.z:.4f} {q.w:.4f}, '
            f'standard deviations {std_m} m')


def covariance_in_base_axes(covariance: Tensor, T_map_base: Tensor) -> Tensor:
    """The inverse of covariance_about_map_axes. [6, 6], [4, 4] -> [6, 6]."""
    R = torch.block_diag(T_map_base[:3, :3], T_map_base[:3, :3])
    turned = R.T @ covariance @ R
    return (turned + turned.T) / 2


def transform_stamped(stamp: Time, frame_id: str, child_frame_id: str, T_a_b: Tensor) -> TransformStamped:
    """[4, 4], takes coordinates of child_frame_id to frame_id."""
    message = TransformStamped(header=Header(stamp=stamp, frame_id=frame_id), child_frame_id=child_frame_id)
    source = pose_to_message(T_a_b)
    translation, position = message.transform.translation, source.position
    translation.x, translation.y, translation.z = position.x, position.y, position.z
    message.transform.rotation = source.orientation
    return message


def diagnostics(stamp: Time, name: str, level: bytes, text: str, values: dict[str, str]) -> DiagnosticArray:
    """One status; level is DiagnosticStatus.OK, WARN or ERROR."""
    status = DiagnosticStatus(level=level, name=name, message=text, hardware_id='',
                              values=[KeyValue(key=key, value=value) for key, value in values.items()])
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])
