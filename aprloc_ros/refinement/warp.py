"""What matches say of an image that its camera cannot have taken at once: rows that moved while they were read, other pixels, a bend.

A rolling shutter sees each row from a camera that has turned since the one before (Meingast, Geyer and Sastry, Geometric models of
rolling-shutter cameras, OMNIVIS 2005): by first order the turns about its axes shear an image, stretch it and curl it. So do those
who resample it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.lens_matches import by_offsets
from aprloc_ros.refinement.levenberg import is_solvable

_SIGMAS_CELLS = (4.0, 3.0, 2.0, 1.5, 1.0, 1.0, 1.0)   # of Geman and McClure's kernel, a step each: the whole consensus, then its core
_FEWEST = 20          # matches
_ALIKE = 4.0          # neighbouring matches err alike: their variance counts so many times
_LEAST_VARIANCE = 1 / 12   # of a whole cell
_SPREAD = 0.1         # of warps, where there is one
_LIKELY = 0.1         # share of images that are warped, before one is seen
_PESSIMISM = 10.0     # a doubt counts so many times in the covariance
_CURVED = 0.3         # of how far a warp moves the pose: to all sides, as the way is no straight line
_SURE = 0.999
_MOST = 0.1           # a warp that is surely larger: nothing is linear any more
_NAMES = ('stretched or its rows moved up or down', 'sheared or its rows moved sideways', 'curled by rows that turned',
          'bent as by another distortion')


@dataclass(frozen=True, eq=False)
class Warp:
    """What an image is warped by: turns in radians about x, y and z in the time in which as many rows are read as the focal length has,
    and r^2 of a radial distortion more than the camera's."""

    offsets: Tensor      # [4] float64
    covariance: Tensor   # [4, 4] of them
    shift: Tensor        # [6, 4]: xi of T_true = T_map_cam @ exp(xi) is shift @ the true offsets

    @property
    def probability(self) -> float:
        """That there is one: explanations compete (Bayes)."""
        total = self.covariance + _SPREAD ** 2 * torch.eye(4, dtype=torch.float64)
        drop = self.offsets @ (torch.linalg.inv(self.covariance) - torch.linalg.inv(total)) @ self.offsets
        odds = np.log(_LIKELY / (1 - _LIKELY)) + (torch.logdet(self.covariance) - torch.logdet(total) + drop).item() / 2
        return float(1 / (1 + np.exp(-np.clip(odds, -700, 700))))

    @property
    def problem(self) -> str:
        """What the image is, in words, where it is surely too much of it; else ''."""
        largest = int(self.offsets.abs().argmax())
        if self.offsets[largest].abs() <= _MOST or self.probability < _SURE:
            return ''
        return f'it is {_NAMES[largest]}, by {self.offsets[largest].abs():.2f}'

    def widened(self, covariance: Tensor) -> Tensor:
        """The covariance [6, 6] of the pose with what it may be off by for a warp."""
        total = self.covariance + _SPREAD ** 2 * torch.eye(4, dtype=torch.float64)
        mean = _SPREAD ** 2 * torch.linalg.solve(total, self.offsets)
        moment = torch.outer(mean, mean) + _SPREAD ** 2 * torch.linalg.solve(total, self.covariance)
        further = min(1.0, _PESSIMISM * self.probability) * self.shift @ moment @ self.shift.T
        squared = torch.diagonal(further).unflatten(0, (2, 3)).sum(1)
        return covariance + (further + further.T) / 2 + _CURVED ** 2 * torch.diag(squared.repeat_interleave(3))


def find_warp(cells: np.ndarray, xyz: np.ndarray, camera: Pinhole, T_cam_map: np.ndarray) -> Warp | None:
    """Robust least squares of pose, lens and warp together on matches: cells [N, 2] of points xyz [N, 3], at the pose [4, 4] of an
    answer that knows of no warp. None where they do not tell."""
    projected, cam, inside = camera.project(xyz, T_cam_map)
    if inside.sum() < _FEWEST:
        return None
    rays = (projected - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    J = np.concatenate([camera.jacobian(cam), by_offsets(projected, camera, camera), _by_warp(rays) * [[camera.fx], [camera.fy]]], 2)
    left, x = projected - cells, np.zeros(J.shape[2])
    for sigma in _SIGMAS_CELLS:
        squared = ((left + J @ x) ** 2).sum(1)
        weight = inside / (1 + squared / sigma ** 2) ** 2
        weighted = (weight[:, None, None] * J).reshape(-1, J.shape[2]).T
        H = weighted @ J.reshape(-1, J.shape[2])
        if not is_solvable(torch.from_numpy(H)):
            return None
        x = -np.linalg.solve(H, weighted @ left.ravel())
    variance = max((weight * squared).sum() / (2 * weight.sum()), _LEAST_VARIANCE)
    covariance = _ALIKE * variance * np.linalg.inv(H)[9:, 9:]
    shift = -np.linalg.solve(H[:6, :6], H[:6, 9:])
    return Warp(*(torch.from_numpy(part) for part in (x[9:], covariance, shift)))


def _by_warp(rays: np.ndarray) -> np.ndarray:
    """Of rays [N, 2] (x, y, at z = 1) by the warp: [N, 2, 4]."""
    x, y = rays.T
    squared = x * x + y * y
    return np.stack([np.stack([x * y * y, y + x * x * y, y * y, x * squared], 1),
                     np.stack([y + y ** 3, x * y * y, -x * y, y * squared], 1)], 1)
