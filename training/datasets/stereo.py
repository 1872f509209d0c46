"""What camera_info of a stereo pair leaves open: of which of its cameras, raw or rectified, TF and poses are."""

import torch
from torch import Tensor

from aprloc_ros.geometry import nearest_rotation, pose, so3_log
from aprloc_ros.recordings.camera_info import pair_numbers

_SMALL_RAD, _SMALL_M = 1e-3, 1e-3
_CURE = 'give the images a frame_id of their own, and TF a static transform to it'


def mounts_of_pair(info, rectified: bool) -> dict[str, Tensor]:
    """Capture.mounts of images with this CameraInfo: in words -> T_frame_cam [4, 4], where their frame is another one.

    R turns the camera into a rectified one, and P says where that sits in the first one of the pair. image_geometry takes the frame
    that images name for the rectified camera's, and for that of both cameras of a pair; drivers and URDFs often mean the camera
    as it is, each with a frame of its own. So neither is believed: the poses are taken for those of the images.
    """
    R, (x_m, y_m) = pair_numbers(info)
    R, beside = nearest_rotation(torch.tensor(R, dtype=torch.float64).view(3, 3)), torch.tensor([x_m, y_m, 0.0], dtype=torch.float64)
    turn, zero = R.T if rectified else R, torch.zeros(3, dtype=torch.float64)
    turned_rad, beside_m = so3_log(R).norm().item(), beside.norm().item()
    found = {}
    if turned_rad > _SMALL_RAD:
        other = 'as it is, not rectified' if rectified else 'as rectified'
        degrees = torch.tensor(turned_rad).rad2deg().item()
        found[f'as those of the camera {other}, which R of camera_info turns by {degrees:.2f} degrees: {_CURE}'] = pose(turn, zero)
    if beside_m > _SMALL_M:   # of the first camera as it is camera_info of this one tells nothing
        own = torch.eye(3, dtype=torch.float64) if rectified else turn
        found[f'as those of the first camera of the pair, rectified, {beside_m:.3f} m beside this one by P of camera_info: {_CURE}'] = pose(own, beside)
    return found
