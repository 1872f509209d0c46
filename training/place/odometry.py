"""What a robot's other sensors say of a drive whose poses are exact: odometry that drifts."""

import torch
from torch import Tensor

from aprloc_ros.geometry import invert, pose, so3_exp
from aprloc_ros.recordings.trajectory import Trajectory

RATE_HZ = 20.0


def body_way(stamps_s: Tensor, T_world_cam: Tensor, T_base_cam: Tensor) -> Trajectory:
    """T_world_base, at RATE_HZ, of a body that stays level under its camera: stamps [N], poses [N, 4, 4], mount [4, 4]."""
    T_world_base = T_world_cam @ invert(T_base_cam)
    yaw = torch.atan2(T_world_base[:, 1, 0], T_world_base[:, 0, 0])
    zero = torch.zeros_like(yaw)
    R = so3_exp(torch.stack([zero, zero, yaw], 1))
    base = T_world_cam[:, :3, 3] - (R @ T_base_cam[:3, 3])
    level = Trajectory(stamps_s, pose(R, torch.cat([base[:, :2], zero[:, None]], 1)))
    times = torch.arange(stamps_s[0], stamps_s[-1], 1 / RATE_HZ, dtype=torch.float64)
    return Trajectory(times, level.at(times, 100.0)[0])


def drifted(way: Trajectory, seed: int, slip_per_m: float = 0.01, turn_rad_per_m: float = 0.01, bias_rad_per_m: float = 0.005,
            ) -> Trajectory:
    """Odometry of a way: its steps, each as wrong as that, summed up. Slip and turn are random walks, of a metre's standard
    deviation; the bias turns always to one side. The defaults end off by 2 % of the way after a round of 100 m.
    """
    steps = invert(way.T_a_b[:-1]) @ way.T_a_b[1:]
    length = steps[:, :3, 3].norm(dim=1)
    noise = torch.randn(len(steps), 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    walk = length.sqrt()
    slip = slip_per_m * walk * noise[:, 0]
    turn = turn_rad_per_m * walk * noise[:, 1] + bias_rad_per_m * length
    zero = torch.zeros_like(turn)
    direction = steps[:, :3, 3] / length.clamp_min(1e-9)[:, None]
    wrong = pose(steps[:, :3, :3] @ so3_exp(torch.stack([zero, zero, turn], 1)), steps[:, :3, 3] + slip[:, None] * direction)
    T = [torch.eye(4, dtype=torch.float64)]
    for step in wrong:
        T.append(T[-1] @ step)
    return Trajectory(way.stamps_s, torch.stack(T))
