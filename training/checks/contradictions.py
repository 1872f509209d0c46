"""Poses made wrong on purpose, in the ways that captures are: what tests and the benchmark try."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.geometry import (
    BODY_FROM_CV,
    GL_FROM_CV,
    invert,
    pose,
    quaternion_to_rotation,
    rotation_to_quaternion,
    se3_exp,
)
from aprloc_ros.training.datasets.capture import Frame

# A camera 0.3 m before and 0.4 m above a robot's centre, which looks down by 0.2 rad.
T_BASE_CAM = se3_exp(torch.tensor([0.0, 0, 0, 0, 0.2, 0]).double()) @ BODY_FROM_CV
T_BASE_CAM[:3, 3] = torch.tensor([0.3, 0.05, 0.4])
_MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


def _shifted(by: int) -> Callable[[Tensor], Tensor]:
    return lambda T: T[(torch.arange(len(T)) + by).clamp(0, len(T) - 1)]


def _with_positions(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda T: pose(T[:, :3, :3], change(T[:, :3, 3]))


def _with_rotations(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda T: pose(change(T[:, :3, :3]), T[:, :3, 3])


def _misread(R: Tensor) -> Tensor:
    """w x y z read where x y z w was written."""
    return quaternion_to_rotation(rotation_to_quaternion(R).roll(1, -1))


def _shuffled(share: float) -> Callable[[Tensor], Tensor]:
    """The last part of the capture has other frames' poses."""
    def change(T: Tensor) -> Tensor:
        kept = round((1 - share) * len(T))
        order = torch.randperm(len(T) - kept, generator=torch.Generator().manual_seed(0))
        return torch.cat([T[:kept], T[kept:][order]])
    return change


def _noisy(position_m: float, rotation_deg: float) -> Callable[[Tensor], Tensor]:
    def change(T: Tensor) -> Tensor:
        xi = torch.from_numpy(np.random.default_rng(0).normal(size=(len(T), 6)))
        return T @ se3_exp(xi * torch.tensor([position_m] * 3 + [np.deg2rad(rotation_deg)] * 3))
    return change


def _turned(deg: float) -> Callable[[Tensor], Tensor]:
    """As if the images were turned clockwise by so much, after somebody found their poses."""
    return lambda T: T @ se3_exp(torch.tensor([0.0, 0, 0, 0, 0, np.deg2rad(deg)], dtype=torch.float64))


# What is wrong -> (poses T_map_cam [N, 4, 4] -> [N, 4, 4], words that must be said).
CONTRADICTIONS: Mapping[str, tuple[Callable[[Tensor], Tensor], str]] = {
    'poses of base_link': (lambda T: T @ invert(T_BASE_CAM), 'as those of a body (base_link?)'),
    'axes of a robot\'s body': (lambda T: T @ invert(BODY_FROM_CV), 'a robot\'s body'),
    'OpenGL axes': (lambda T: T @ GL_FROM_CV, 'OpenGL and OpenCV camera axes exchanged'),
    'world-to-camera': (invert, 'as world-to-camera poses'),
    'world-to-camera with OpenGL axes': (lambda T: invert(T @ GL_FROM_CV), 'world-to-camera poses of OpenGL axes'),
    'rotations of world-to-camera': (_with_rotations(lambda R: R.mT), 'transposed rotations'),
    'translations of world-to-camera': (lambda T: pose(T[:, :3, :3], invert(T)[:, :3, 3]), 'translations of world-to-camera'),
    'left-handed axes': (lambda T: _MIRROR @ T @ _MIRROR, 'left-handed axes'),
    'quaternions in the other order': (_with_rotations(_misread), 'quaternions in the other order'),
    'frames shifted by 1': (_shifted(1), 'if shifted by 1: each image has the pose of the one 1 after it'),
    'frames shifted by -3': (_shifted(-3), 'if shifted by 3: each image has the pose of the one 3 before it'),
    'images turned by a half': (_turned(180), 'if the images are turned by a half'),
    'images turned by a quarter': (_turned(90), 'if the images are turned by a quarter counter-clockwise'),
    'one rotation for all': (_with_rotations(lambda R: R[:1].expand_as(R)), 'all of them have the same rotation'),
    'each pose five times': (lambda T: T[torch.arange(len(T)) // 5 * 5], 'repeat the one before'),
    'frames in reverse': (lambda T: T.flip(0), 'in the opposite order'),
    'positions of other axes': (_with_positions(lambda t: t.roll(1, -1)), 'positions turned to'),
    'positions mirrored in y': (_with_positions(lambda t: t * t.new_tensor([1, -1, 1])), 'positions mirrored to'),
    'z ten times too large': (_with_positions(lambda t: t * t.new_tensor([1, 1, 10])), 'whose z is multiplied by 0.1'),
    'poses of other images': (_shuffled(1.0), 'none of the usual suspects'),
    'half of the poses of other images': (_shuffled(0.5), 'none of the usual suspects'),
}
# What right captures may have.
HARMLESS: Mapping[str, Callable[[Tensor], Tensor]] = {
    'as they are': lambda T: T, 'in another map frame': lambda T: T_BASE_CAM @ T,
    'noise of 1 cm, 0.3 deg': _noisy(0.01, 0.3), 'noise of 3 cm, 1 deg': _noisy(0.03, 1.0),
}


def with_poses(frames: tuple[Frame, ...], change: Callable[[Tensor], Tensor]) -> tuple[Frame, ...]:
    T = change(torch.stack([frame.T_map_cam for frame in frames]))
    return tuple(replace(frame, T_map_cam=each) for frame, each in zip(frames, T))


def with_focal_length(frames: tuple[Frame, ...], factor: float) -> tuple[Frame, ...]:
    return tuple(replace(frame, camera=replace(frame.camera, fx=factor * frame.camera.fx, fy=factor * frame.camera.fy))
                 for frame in frames)
