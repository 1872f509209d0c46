"""Drives with exact poses, and what sensors with known faults say of them."""

import math
from pathlib import Path

import torch

from aprloc_ros.geometry import invert, pose, so3_exp
from aprloc_ros.recordings.trajectory import Trajectory
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.place.drive import COURSES, plan_drive
from aprloc_ros.training.posing.metres.measured import Posed

LEVEL = torch.tensor([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64)   # a camera that looks along its body's x
MOUNT = pose(LEVEL, torch.tensor([0.3, -0.1, 0.5], dtype=torch.float64))          # T_base_cam
# From metres to the frame of a structure from motion.
TO_SFM = Similarity(0.37, so3_exp(torch.tensor([0.6, -1.0, 0.8], dtype=torch.float64)),
                    torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64), 0.0, '')
RATE_HZ = 20.0


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def demo_drive(name='drive_1'):
    """(stamps [N], T_world_cam [N, 4, 4]) of the demo's drive."""
    drive = plan_drive(next(course for course in COURSES if course.name == name))
    return torch.from_numpy(drive.stamps_s).double(), torch.from_numpy(drive.T_map_cam)


def posed(stamps_s, T_world_cam, noise_m=0.0, noise_rad=0.0, seed=0, names=None):
    """What a structure from motion makes of them, with noise of that many metres and radians."""
    N = len(T_world_cam)
    rotation = T_world_cam[:, :3, :3] @ so3_exp(noise_rad * draws(N, 3, seed=seed))
    noisy = pose(rotation, T_world_cam[:, :3, 3] + noise_m * draws(N, 3, seed=seed + 1000))
    names = names or tuple(f'{index:04d}.png' for index in range(N))
    return Posed(names, tuple(Path(name) for name in names), TO_SFM.apply(noisy), stamps_s=stamps_s)


def body_way(stamps_s, T_world_cam, mount=MOUNT):
    """T_world_base of a body that stays level under its camera, at RATE_HZ."""
    T_world_base = T_world_cam @ invert(mount)
    yaw = torch.atan2(T_world_base[:, 1, 0], T_world_base[:, 0, 0])
    zero = torch.zeros_like(yaw)
    R = so3_exp(torch.stack([zero, zero, yaw], 1))
    base = T_world_cam[:, :3, 3] - (R @ mount[:3, 3])
    level = Trajectory(stamps_s, pose(R, torch.cat([base[:, :2], zero[:, None]], 1)))
    times = torch.arange(stamps_s[0], stamps_s[-1], 1 / RATE_HZ, dtype=torch.float64)
    return Trajectory(times, level.at(times, 100.0)[0])


def drifted(way, slip_per_m=0.01, turn_rad_per_m=0.01, bias_rad_per_m=0.005, seed=0):
    """Odometry: the way's steps, each as wrong as that (random walks, and a turn that is always the same), summed up."""
    steps = invert(way.T_a_b[:-1]) @ way.T_a_b[1:]
    length = steps[:, :3, 3].norm(dim=1)
    noise = draws(len(steps), 2, seed=seed)
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


def up_error_deg(change):
    """Between the z that a Measured gives and the world's."""
    z = (change.rotation @ TO_SFM.rotation)[:, 2]
    return math.degrees(math.acos(min(1.0, z[2].item())))


def scale_error(change):
    return math.log(change.scale * TO_SFM.scale)
