"""Where the camera sits on the robot, and TF in and out through whatever is installed."""

from collections.abc import Callable

import torch
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import BODY_FROM_CV, pose, so3_exp
from aprloc_ros.recordings.message_fields import rigid_transform

TF_WAIT_S = 0.1   # how long a frame waits for a transform
_NAME_LENGTH = 80   # of a frame from a message, in what is said to the user

# Takes the frame and stamp of an image to T_base_cam [4, 4] (optical axes) or raises AprlocError.
Extrinsics = Callable[[str, object], Tensor]


def rotation_from_rpy(roll: float, pitch: float, yaw: float) -> Tensor:
    """Rotations about the fixed axes x, then y, then z, radians (REP-103, as in URDF) -> [3, 3] float64."""
    about = torch.diag(torch.tensor([roll, pitch, yaw], dtype=torch.float64))
    about_x, about_y, about_z = so3_exp(about)
    return about_z @ about_y @ about_x


def extrinsics_from_parameters(base_frame: str, xyz_m: tuple, rpy_rad: tuple) -> Extrinsics:
    """The camera's body (x forward) sits at xyz_m, rpy_rad in base_frame; images in base_frame itself need nothing.

    These raise AprlocError where the camera is said to sit elsewhere: a driver that names the robot's frame for its own. So do images
    of another frame than the first ones: those of a second camera on the same topic, which sits elsewhere.
    """
    T_base_body = pose(rotation_from_rpy(*rpy_rad), torch.tensor(xyz_m, dtype=torch.float64))
    T_base_cam, first = T_base_body @ BODY_FROM_CV, ''

    def lookup(frame_id: str, stamp: object) -> Tensor:
        nonlocal first
        if frame_id == base_frame:
            if any((*xyz_m, *rpy_rad)):
                raise AprlocError(f'the images are of the frame {frame_id!r}, base_frame itself, in which camera_xyz_m and camera_rpy_rad '
                                  'put the camera elsewhere; let the driver name a frame of the camera, or leave these at zero')
            return torch.eye(4, dtype=torch.float64)
        first = first or frame_id
        if frame_id not in ('', first):
            raise AprlocError(f'the image is of the frame {frame_id[:_NAME_LENGTH]!r}, the first ones of {first[:_NAME_LENGTH]!r}, whose camera '
                              'is where camera_xyz_m and camera_rpy_rad say: give each camera a topic of its own, or publish TF; if there is '
                              'but one, configure the node anew')
        return T_base_cam

    return lookup


class TfLookup:
    """Transforms at an image's stamp. Raises ImportError without tf2_ros."""

    def __init__(self, node: Node):
        import tf2_ros
        self._no_transform = tf2_ros.TransformException
        # With the node it follows the node's clock, and forgets what moved when a simulation's time is set back.
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def __call__(self, target: str, source: str, stamp: object) -> Tensor:
        """T_target_source [4, 4]; waits for it up to TF_WAIT_S. Raises AprlocError."""
        try:
            found = self._buffer.lookup_transform(
                target, source, Time.from_msg(stamp), Duration(seconds=TF_WAIT_S)).transform
        except self._no_transform as error:
            raise AprlocError(f'no transform from {source[:_NAME_LENGTH]!r} to {target!r}: '
                              f'{(str(error).splitlines() or [""])[0].rstrip(". ")}') from None
        return rigid_transform(found.translation, found.rotation, f'TF {target} <- {source[:_NAME_LENGTH]}')

    def forget(self) -> None:
        """What moves; static transforms stay."""
        self._buffer.clear()


def make_lookup(node: Node) -> TfLookup | None:
    """None without tf2_ros."""
    try:
        return TfLookup(node)
    except ImportError:
        return None


def extrinsics_from_tf(base_frame: str, lookup: TfLookup) -> Extrinsics:
    """The transform base_frame <- the image's frame at the image's stamp."""
    def look_up(frame_id: str, stamp: object) -> Tensor:
        if frame_id == base_frame:
            return torch.eye(4, dtype=torch.float64)
        try:
            return lookup(base_frame, frame_id, stamp)
        except AprlocError as error:
            raise AprlocError(f'{error}; publish it, or set the parameter extrinsics to parameters') from None

    return look_up


def make_extrinsics(lookup: TfLookup | None, choice: str, base_frame: str, xyz_m: tuple, rpy_rad: tuple,
                    ) -> tuple[Extrinsics, str]:
    """choice: 'tf', 'parameters' or 'auto' -> the extrinsics, and what is missing in one line ('' if nothing).

    lookup: None without tf2_ros. Raises AprlocError where 'tf' needs it.
    """
    if choice != 'parameters' and lookup is not None:
        return extrinsics_from_tf(base_frame, lookup), ''
    if choice == 'tf':
        raise AprlocError("the parameter extrinsics is 'tf' but tf2_ros is not installed; set it to 'parameters'")
    missing = 'tf2_ros is not installed: the camera sits where camera_xyz_m and camera_rpy_rad say'
    return extrinsics_from_parameters(base_frame, xyz_m, rpy_rad), '' if choice == 'parameters' else missing


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
