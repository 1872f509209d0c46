"""The demo place, built once by each process that photographs it, and its held-out drive."""

import functools
from collections.abc import Sequence

import numpy as np
import torch

from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.place.court import build_court
from aprloc_ros.training.place.drive import COURSES, plan_drive
from aprloc_ros.training.place.raycast import Renderer
from aprloc_ros.training.place.sensor import Sensor, develop

COARSE_M = 0.05   # texels that are enough for what no map was trained on


@functools.cache
def court_renderer(texel_m: float) -> Renderer:
    return Renderer(build_court(0, texel_m))


def held_out_drive(frames: Sequence[int]) -> tuple[list[np.ndarray], torch.Tensor]:
    """Photographs [H, W, 3] uint8 of these frames of the drive, ten a second, as the demo's map knows the place; T_map_cam [N, 4, 4]."""
    drive = plan_drive(next(course for course in COURSES if course.split == 'test'))
    light = (court_renderer(0.02).render(CAMERA, drive.T_map_cam[i], drive.actors(i))[0] for i in frames)
    return list(develop(light, Sensor(), 0.1, np.random.default_rng(0))), torch.from_numpy(drive.T_map_cam[list(frames)])
