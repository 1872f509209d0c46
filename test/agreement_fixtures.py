"""A short drive through the demo place, rendered once, whose poses tests make wrong."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from court_fixtures import COARSE_M, court_renderer

from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.place.drive import camera_poses

COUNT = 20
DEPTH_UNIT_M = 0.001


def walk(later: float = 0.0) -> np.ndarray:
    """T_map_cam [COUNT, 4, 4]: sideways and back, up and down, the head turning about all axes. later: share of the walk."""
    s = np.linspace(0, 1, COUNT) + later
    eye = np.stack([-5 + 5 * s, -2 + 1.5 * np.sin(5 * s), 1.4 + 0.5 * np.sin(8 * s + 1)], -1)
    return camera_poses(eye, 1.2 + 0.5 * np.sin(6 * s), 0.05 + 0.15 * np.cos(7 * s), 0.25 * np.sin(9 * s))


def photographed(directory: Path, T_map_cam: np.ndarray, camera=CAMERA) -> tuple[Frame, ...]:
    """Frames with images and depth images [mm] of the court from these poses."""
    renderer, frames = court_renderer(COARSE_M), []
    directory.mkdir(parents=True, exist_ok=True)
    for i, T in enumerate(T_map_cam):
        radiance, depth_m = renderer.render(camera, T)
        path, depth_path = directory / f'{i:02d}.png', directory / f'{i:02d}_depth.png'
        cv2.imwrite(str(path), np.clip(255 * (radiance / 2) ** 0.45, 0, 255).astype(np.uint8)[..., ::-1])
        cv2.imwrite(str(depth_path), np.round(depth_m / DEPTH_UNIT_M).astype(np.uint16))
        frames.append(Frame(path.name, path, torch.from_numpy(T), camera, stamp_s=i / 5, depth_path=depth_path,
                            depth_unit_m=DEPTH_UNIT_M))
    return tuple(frames)


def with_depths(frames: tuple[Frame, ...], directory: Path, change) -> tuple[Frame, ...]:
    """The frames with depth images that hold change(depth [H, W] in m, frame)."""
    directory.mkdir()
    changed = []
    for frame in frames:
        depth_m = cv2.imread(str(frame.depth_path), cv2.IMREAD_UNCHANGED) * DEPTH_UNIT_M
        path = directory / f'{frame.image_path.stem}.tiff'
        cv2.imwrite(str(path), np.asarray(change(depth_m, frame)))
        changed.append(replace(frame, depth_path=path))
    return tuple(changed)
