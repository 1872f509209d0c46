"""Where the camera sits on the robot, where odometry says the robot is, and TF through whatever is installed."""

import threading
from collections import deque
from collections.abc import Callable

import torch
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import BODY_FROM_CV, invert, pose, se3_exp, se3_log, so3_exp
from aprloc_ros.ros_messages import rigid_transform, stamp_ns

TF_WAIT_S = 0.1           # how long a frame waits for the camera's transform
ODOMETRY_MAX_GAP_S = 0.2  # odometry further from the image's stamp than this is not used
_ODOMETRY_KEPT = 1000

# Takes the frame and stamp of an image to T_base_cam [4, 4] (optical axes) or raises AprlocError.
Extrinsics = Callable[[str, object], Tensor]


def rotation_from_rpy(roll: float, pitch: float, yaw: float) -> Tensor:
    """Rotations about the fixed axes x, then y, then z, radians (REP-103, as in URDF) -> [3, 3] float64."""
    about = torch.diag(torch.tensor([roll, pitch, yaw], dtype=torch.float64))
    about_x, about_y, about_z = so3_exp(about)
    return about_z @ about_y @ about_x


def extrinsics_from_parameters(base_frame: str, xyz_m: tuple, rpy_rad: tuple) -> Extrinsics:
    """The camera's body (x forward) sits at xyz_m, rpy_rad in base_frame; images in base_frame itself need nothing."""
    T_base_body = pose(rotation_from_rpy(*rpy_rad), torch.tensor(xyz_m, dtype=torch.float64))
    T_base_cam = T_base_body @ BODY_FROM_CV

    def lookup(frame_id: str, stamp: object) -> Tensor:
        return torch.eye(4, dtype=torch.float64) if frame_id == base_frame else T_base_cam

    return lookup


class TfExtrinsics:
    """The transform base_frame <- the image's frame at the image's stamp. Raises ImportError without tf2_ros."""

    def __init__(self, node: Node, base_frame: str):
        import tf2_ros
        self._base_frame = base_frame
        self._no_transform = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def __call__(self, frame_id: str, stamp: object) -> Tensor:
        if frame_id == self._base_frame:
            return torch.eye(4, dtype=torch.float64)
        wait = Duration(seconds=TF_WAIT_S)
        try:
            found = self._buffer.lookup_transform(self._base_frame, frame_id, Time.from_msg(stamp), wait).transform
        except self._no_transform as error:
            raise AprlocError(f'no transform from the camera {frame_id!r} to {self._base_frame!r}: {error}; publish '
                              f'it, or set the parameter extrinsics to parameters') from None
        return rigid_transform(found.translation, found.rotation, f'TF {self._base_frame} <- {frame_id}')


def make_extrinsics(node: Node, choice: str, base_frame: str, xyz_m: tuple, rpy_rad: tuple) -> tuple[Extrinsics, str]:
    """choice: 'tf', 'parameters' or 'auto' -> the lookup, and what is missing in one line ('' if nothing)."""
    parameters = extrinsics_from_parameters(base_frame, xyz_m, rpy_rad)
    if choice == 'parameters':
        return parameters, ''
    try:
        return TfExtrinsics(node, base_frame), ''
    except ImportError:
        if choice == 'tf':
            raise AprlocError("the parameter extrinsics is 'tf' but tf2_ros is not installed; set it to 'parameters'"
                              ) from None
    return parameters, 'tf2_ros is not installed: the camera sits where camera_xyz_m and camera_rpy_rad say'


def make_broadcaster(node: Node) -> tuple[Callable[[TransformStamped], None] | None, str]:
    """A function that sends a transform to /tf (None if it cannot), and what is missing in one line ('' if nothing)."""
    try:
        from tf2_ros import TransformBroadcaster
        return TransformBroadcaster(node).sendTransform, ''
    except ImportError:
        pass
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None, 'neither tf2_ros nor tf2_msgs is installed: TF is off, poses go to the topics alone'
    publisher = node.create_publisher(TFMessage, '/tf', QoSProfile(depth=100))
    return (lambda transform: publisher.publish(TFMessage(transforms=[transform])),
            'tf2_ros is not installed: TF is published through tf2_msgs alone')


class OdometryBuffer:
    """The latest odometry, to ask where the robot was at an image's stamp. Thread-safe."""

    def __init__(self, base_frame: str):
        self._base_frame = base_frame
        self._lock = threading.Lock()
        self._poses: deque[tuple[int, Tensor]] = deque(maxlen=_ODOMETRY_KEPT)
        self._frame_id = ''

    def add(self, message: Odometry) -> None:
        """Raises AprlocError for a pose of another frame than the base, or one that is no pose."""
        if message.child_frame_id != self._base_frame:
            raise AprlocError(f'odom is of {message.child_frame_id!r}, not of the base_frame {self._base_frame!r}')
        pose_message = message.pose.pose
        T_odom_base = rigid_transform(pose_message.position, pose_message.orientation, 'odom')
        now_ns = stamp_ns(message.header.stamp)
        with self._lock:
            if self._poses and (now_ns <= self._poses[-1][0] or message.header.frame_id != self._frame_id):
                self._poses.clear()  # the clock was set back, or another odometry took over
            self._frame_id = message.header.frame_id
            self._poses.append((now_ns, T_odom_base))

    def at(self, time_ns: int) -> tuple[str, Tensor]:
        """The odometry's frame and T_odom_base [4, 4] at that time, at constant velocity between the messages and shortly after the last.

        Raises AprlocError when there is no odometry within ODOMETRY_MAX_GAP_S.
        """
        with self._lock:
            frame_id, poses = self._frame_id, tuple(self._poses)
        gap_s = min((abs(time_ns - t) for t, _ in poses), default=float('inf')) / 1e9
        if gap_s > ODOMETRY_MAX_GAP_S:
            raise AprlocError(f'no odometry within {ODOMETRY_MAX_GAP_S} s of the image' +
                              (f', the nearest is {gap_s:.2f} s away' if poses else ': nothing on the topic odom'))
        if len(poses) == 1:
            return frame_id, poses[0][1]
        after = next((i for i, (t, _) in enumerate(poses) if t >= time_ns), len(poses) - 1)
        (t0, T0), (t1, T1) = poses[max(after, 1) - 1], poses[max(after, 1)]
        return frame_id, T0 @ se3_exp((time_ns - t0) / (t1 - t0) * se3_log(invert(T0) @ T1))
