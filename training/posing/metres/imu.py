"""Up from an accelerometer: what it feels over a drive is mostly the floor."""

import math

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.recordings.recording import Recording
from aprloc_ros.recordings.tf_tree import TfTree
from aprloc_ros.recordings.trajectory import make_trajectory
from aprloc_ros.training.posing.metres.measured import Posed, mean_direction

IMU = 'sensor_msgs/msg/Imu'
_MAX_GAP_S = 3.0
_GRAVITY_M_S2 = 5.0, 15.0   # what the median acceleration must lie between
_TOGETHER_S = 5.0           # a robot that speeds up slows down again
_BIAS_RAD = math.radians(0.3)   # of a cheap accelerometer: 0.05 m/s^2


def up_of_imu(recording: Recording, topic: str, posed: Posed, tree: TfTree, camera_frame: str) -> tuple[Tensor, float]:
    """The unit vector [3] in the map that is up, and its standard deviation in radians.

    Raises AprlocError where TF does not say where the IMU sits, it is of another clock, or feels no gravity.
    """
    frame = recording.first(topic).body.header.frame_id.strip('/')
    if posed.stamps_s is None or not tree.connects(camera_frame, frame):
        raise AprlocError(f'IMU {topic}: no /tf_static says how {frame!r} is turned against {camera_frame!r}')
    messages = [message.body for message in recording.messages(topic)]
    stamps_s = torch.tensor([stamp_ns(message.header.stamp) / 1e9 for message in messages], dtype=torch.float64)
    felt = torch.tensor([[message.linear_acceleration.x, message.linear_acceleration.y, message.linear_acceleration.z]
                         for message in messages], dtype=torch.float64)
    T_map_cam, known = make_trajectory(posed.stamps_s.tolist(), list(posed.T_map_cam)).at(stamps_s, _MAX_GAP_S)
    known &= torch.isfinite(felt).all(1)
    if known.sum() < 10:
        raise AprlocError(f'IMU {topic}: no images of its time: it is of another clock')
    size = felt[known].norm(dim=1)
    if not _GRAVITY_M_S2[0] < size.median() < _GRAVITY_M_S2[1]:
        raise AprlocError(f'IMU {topic}: it feels {size.median():.2f} m/s^2, which is not gravity')
    R_cam_imu = tree.lookup(camera_frame, frame, stamps_s[:1], _MAX_GAP_S)[0][0, :3, :3]
    directions = (T_map_cam[known, :3, :3] @ R_cam_imu @ felt[known, :, None])[..., 0] / size[:, None]
    rate_hz = known.sum().item() / max((stamps_s[known].max() - stamps_s[known].min()).item(), 1e-3)
    up, sd = mean_direction(directions, max(1, round(_TOGETHER_S * rate_hz)))
    return up, math.hypot(sd, _BIAS_RAD)
