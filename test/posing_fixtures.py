"""Views of the demo place as files without poses, and their true poses."""

from pathlib import Path

import cv2
import numpy as np
import torch
from court_fixtures import COARSE_M, court_renderer

from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.place.drive import camera_poses


def walk(count: int, start: float = -4.0, length: float = 4.0, yaw: float = 1.3) -> np.ndarray:
    """T_map_cam [N, 4, 4] of a walk sideways before a facade."""
    along = np.linspace(0, 1, count)
    eye = np.stack([start + length * along, -3 + 0.3 * np.sin(7 * along), 1.4 + 0.2 * along], -1)
    return camera_poses(eye, yaw + 0.25 * along, np.full(count, 0.1), 0.05 * np.cos(9 * along))


def turn(count: int) -> np.ndarray:
    """T_map_cam [N, 4, 4] of a camera that only turns."""
    along = np.linspace(0, 1, count)
    return camera_poses(np.tile([-2.0, -3.0, 1.4], (count, 1)), 1.2 + 0.5 * along, np.full(count, 0.1), np.zeros(count))


def photograph(T_map_cam: np.ndarray) -> list[np.ndarray]:
    """[H, W, 3] uint8 RGB of each pose."""
    renderer = court_renderer(COARSE_M)
    return [np.clip(255 * (renderer.render(CAMERA, T)[0] / 2) ** 0.45, 0, 255).astype(np.uint8) for T in T_map_cam]


def write_images(folder: Path, images: list[np.ndarray], stem: str = 'view') -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f'{stem} {i}.png'), image[..., ::-1])
    return folder


def similarity_errors(ours: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Largest distance as a share of the extent, and largest angle in degrees [N, 4, 4].

    Places are compared after their best similarity (evo's Umeyama), orientations after their mean turn: the places of a walk
    lie on a line nearly, about which any turn would do.
    """
    from evo.core.geometry import umeyama_alignment

    a, b, A, B = (part.numpy() for part in (ours[:, :3, 3], truth[:, :3, 3], ours[:, :3, :3], truth[:, :3, :3]))
    R, t, scale = umeyama_alignment(a.T, b.T, with_scale=True)
    apart = np.linalg.norm(scale * a @ R.T + t - b, axis=1).max() / np.linalg.norm(b.max(0) - b.min(0))
    U, _, Vt = np.linalg.svd((B @ A.transpose(0, 2, 1)).sum(0))
    turned = B.transpose(0, 2, 1) @ (U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt @ A)
    angles = [np.linalg.norm(cv2.Rodrigues(np.ascontiguousarray(rotation))[0]) for rotation in turned]
    return float(apart), float(np.degrees(max(angles)))
