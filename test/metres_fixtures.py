"""Drives with exact poses, and what sensors with known faults say of them."""

import math
from pathlib import Path

import torch

from aprloc_ros.geometry import pose, so3_exp
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.place.drive import COURSES, plan_drive
from aprloc_ros.training.posing.metres.measured import Posed

LEVEL = torch.tensor([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64)   # a camera that looks along its body's x
MOUNT = pose(LEVEL, torch.tensor([0.3, -0.1, 0.5], dtype=torch.float64))          # T_base_cam
# From metres to the frame of a structure from motion.
TO_SFM = Similarity(0.37, so3_exp(torch.tensor([0.6, -1.0, 0.8], dtype=torch.float64)),
                    torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64), 0.0, '')


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


def up_error_deg(change):
    """Between the z that a Measured gives and the world's."""
    z = (change.rotation @ TO_SFM.rotation)[:, 2]
    return math.degrees(math.acos(min(1.0, z[2].item())))


def scale_error(change):
    return math.log(change.scale * TO_SFM.scale)
