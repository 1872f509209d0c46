"""A first guess of what a camera is off by, from matches: they say it from farther away than the features' slopes do."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.gnc import Pinhole

_SIGMAS_CELLS = (8.0, 4.0)   # of Geman and McClure's kernel, one after the other: the whole consensus, then its core
_STEPS = 2                   # of each
_DAMPING = 1e-3              # share of the Hessian's diagonal
_FARTHEST = 0.5              # of an offset: no camera is so far off
_FEWEST = 9                  # matches


@dataclass(frozen=True, eq=False)
class LensGuess:
    """Offsets [3] of refinement.lens_evidence, and the pose [4, 4] T_map_cam that goes with them; float64."""

    offsets: Tensor
    T_map_cam: Tensor


def guess_lens(cells: np.ndarray, xyz: np.ndarray, camera: Pinhole, T_cam_map: np.ndarray) -> LensGuess | None:
    """Robust least squares of pose and offsets together on matches: cells [N, 2] of points xyz [N, 3], from a pose [4, 4].

    None where they lead nowhere.
    """
    if len(xyz) < _FEWEST:
        return None
    offsets = np.zeros(3)
    for sigma in np.repeat(_SIGMAS_CELLS, _STEPS):
        seen = Pinhole(camera.fx * (1 + offsets[0]), camera.fy * (1 + offsets[0]), camera.cx + camera.fx * offsets[1],
                       camera.cy + camera.fy * offsets[2], camera.width, camera.height)
        projected, cam, inside = seen.project(xyz, T_cam_map)
        residual = projected - cells
        weight = inside / (1 + (residual ** 2).sum(1) / sigma ** 2) ** 2
        J = np.concatenate([seen.jacobian(cam), by_offsets(projected, seen, camera)], 2).reshape(-1, 9)
        weighted = np.repeat(weight, 2)[:, None] * J
        H = weighted.T @ J
        try:
            step = -np.linalg.solve(H + _DAMPING * np.diag(H.diagonal()), weighted.T @ residual.ravel())
        except np.linalg.LinAlgError:
            return None
        offsets = offsets + step[6:]
        if not np.isfinite(step).all() or np.abs(offsets).max() > _FARTHEST:
            return None
        T_cam_map = se3_exp(torch.from_numpy(-step[:6])).numpy() @ T_cam_map
    return LensGuess(torch.from_numpy(offsets), torch.from_numpy(np.linalg.inv(T_cam_map)))


def by_offsets(projected: np.ndarray, seen: Pinhole, camera: Pinhole) -> np.ndarray:
    """Of the cells [N, 2] by the offsets of the camera: [N, 2, 3]."""
    J = np.zeros((len(projected), 2, 3))
    J[:, 0, 0] = (projected[:, 0] - seen.cx) * camera.fx / seen.fx
    J[:, 1, 0] = (projected[:, 1] - seen.cy) * camera.fy / seen.fy
    J[:, 0, 1], J[:, 1, 2] = camera.fx, camera.fy
    return J
