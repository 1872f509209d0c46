"""Sparse depths of the training frames: what the scene's scale is derived from and the field's depth learns from."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.training.datasets.capture import Frame, SparsePoints
from aprloc_ros.training.datasets.sizes import has_aspect

_PIXELS_PER_DEPTH_IMAGE = 1000


@dataclass(frozen=True)
class SparseDepths:
    """Points of the place as single training frames saw them."""

    frame: Tensor     # [O] int64, index into the training frames
    xyz: Tensor       # [O, 3] float64, map frame
    depth_m: Tensor   # [O] float64, along the optical axis, positive

    def __post_init__(self):
        if not len(self.depth_m):
            raise AprlocError('no training frame has a depth: its depth images are empty, or no point lies before it')


def from_points(frames: tuple[Frame, ...], points: SparsePoints) -> SparseDepths:
    """Observations of sparse points; those behind their camera are dropped."""
    frame, point = points.observations.T
    T_cam_map = invert(torch.stack([f.T_map_cam for f in frames]))[frame]
    xyz = points.xyz[point]
    depth_m = (T_cam_map[:, 2, :3] * xyz).sum(-1) + T_cam_map[:, 2, 3]
    front = depth_m > 0
    return SparseDepths(frame[front], xyz[front], depth_m[front])


def from_depth_images(frames: tuple[Frame, ...], seed: int) -> SparseDepths:
    """A thousand random pixels of each depth image; zero means unknown."""
    random = np.random.default_rng(seed)
    parts = [_of_depth_image(i, frame, random) for i, frame in enumerate(frames) if frame.depth_path]
    if not parts:
        raise AprlocError('no training frame has a depth image')
    return SparseDepths(*(torch.cat(column) for column in zip(*parts)))


def read_depth(frame: Frame) -> np.ndarray:
    """[H, W] in units of the frame's depth image."""
    image = cv2.imread(str(frame.depth_path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2 or not has_aspect(image.shape[::-1], (frame.camera.width, frame.camera.height)):
        raise AprlocError(f'{frame.depth_path}: not a readable one-channel depth image of the aspect of its colour image')
    return image


def _of_depth_image(index: int, frame: Frame, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    image = read_depth(frame)
    # 65535 is what some sensors write for "no return".
    rows, columns = np.nonzero((image > 0) & (image < 65535))
    chosen = random.choice(len(rows), min(len(rows), _PIXELS_PER_DEPTH_IMAGE), replace=False)
    v, u = rows[chosen], columns[chosen]
    depth_m = image[v, u].astype(float) * frame.depth_unit_m
    xy = frame.camera.resized(*image.shape[::-1]).rays_of(np.stack([u, v], -1).astype(float))
    points_cam = torch.from_numpy(np.concatenate([xy, np.ones_like(xy[:, :1])], -1) * depth_m[:, None])
    xyz = points_cam @ frame.T_map_cam[:3, :3].T + frame.T_map_cam[:3, 3]
    return torch.full((len(xyz),), index), xyz, torch.from_numpy(depth_m)
