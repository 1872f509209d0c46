"""What matches say of an image that its camera cannot have taken at once: rows that moved while they were read, other pixels, a bend.

A rolling shutter sees each row from a camera that has turned since the one before (Meingast, Geyer and Sastry, Geometric models of
rolling-shutter cameras, OMNIVIS 2005): by first order the turns about its axes shear an image, stretch it and curl it. So do those
who resample it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.refinement.consensus import consensus
from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.lens_evidence import Seen, of_offsets, widened
from aprloc_ros.refinement.lens_matches import by_offsets
from aprloc_ros.refinement.levenberg import Kernel, Residuals, is_solvable, normal_equations

_SIGMAS_CELLS = (4.0, 2.0, 1.5, 1.0, 1.0)   # a step each: the whole consensus, then its core
_FEWEST = 20          # matches
_ALIKE = 4.0          # neighbours err alike: their variance counts so many times
_LEAST_VARIANCE = 1 / 12   # of a whole cell
_SPREAD = 0.1         # of warps, where there is one
_LIKELY = 0.1         # share of images that are warped, before one is seen
_PESSIMISM = 10.0     # a doubt counts so many times in the covariance
_SURE = 0.999
_MOST = 0.1           # a warp that is surely larger: nothing is linear any more
_OF_CAMERA = 9        # of pose and lens, before those of a warp
_NAMES = ('stretched or its rows moved up or down', 'sheared or its rows moved sideways', 'curled by rows that turned',
          'bent as by another distortion')


@dataclass(frozen=True, eq=False)
class Warp:
    """What an image is warped by: turns in radians about x, y and z in the time in which as many rows are read as the focal length has,
    and r^2 of a radial distortion more than the camera's."""

    offsets: Tensor       # [4] float64
    information: Tensor   # [4, 4] of them, whatever pose and lens
    shift: Tensor         # [6, 4]: xi of T_true = T_map_cam @ exp(xi) is shift @ the true offsets

    @property
    def probability(self) -> float:
        """That there is one: explanations compete (Bayes)."""
        covariance = torch.linalg.inv(self.information)
        total = covariance + _PRIOR
        drop = self.offsets @ (self.information - torch.linalg.inv(total)) @ self.offsets
        odds = math.log(_LIKELY / (1 - _LIKELY)) + (torch.logdet(covariance) - torch.logdet(total) + drop).item() / 2
        return torch.sigmoid(torch.tensor(odds)).item()

    @property
    def problem(self) -> str:
        """What the image is, in words, where it is surely too much of it; else ''."""
        largest = int(self.offsets.abs().argmax())
        if self.offsets[largest].abs() <= _MOST or self.probability < _SURE:
            return ''
        return f'it is {_NAMES[largest]}, by {self.offsets[largest].abs():.2f} of the focal length'

    def widened(self, covariance: Tensor) -> Tensor:
        """The covariance [6, 6] of the pose with what it may be off by for a warp."""
        total = torch.linalg.inv(self.information) + _PRIOR
        mean = _PRIOR @ torch.linalg.solve(total, self.offsets)
        moment = torch.outer(mean, mean) + _PRIOR - _PRIOR @ torch.linalg.solve(total, _PRIOR)
        further = min(1.0, _PESSIMISM * self.probability) * self.shift @ moment @ self.shift.T
        return widened(covariance, (further + further.T) / 2)

    def joined(self, other: 'Warp | None', scale: float) -> 'Warp':
        """With the word of residuals, whose standard deviation is that many times what they promise."""
        if other is None:
            return self
        theirs = other.information / scale ** 2
        information = self.information + theirs
        offsets = torch.linalg.solve(information, self.information @ self.offsets + theirs @ other.offsets)
        return Warp(offsets, information, other.shift)


_PRIOR = _SPREAD ** 2 * torch.eye(4, dtype=torch.float64)


def warp_of_matches(cells: np.ndarray, xyz: np.ndarray, camera: Pinhole, T_cam_map: np.ndarray) -> Warp | None:
    """Robust least squares of pose, lens and warp together on matches: cells [N, 2] of points xyz [N, 3], at the pose [4, 4] of an
    answer that knows of no warp. None where they do not tell."""
    projected, cam, inside = camera.project(xyz, T_cam_map)
    if inside.sum() < _FEWEST:
        return None
    rays = torch.from_numpy((projected - [camera.cx, camera.cy]) / [camera.fx, camera.fy])
    by_warp = _by_warp(*rays.T).numpy() * [[camera.fx], [camera.fy]]
    J = np.concatenate([camera.jacobian(cam), by_offsets(projected, camera, camera), by_warp], 2)
    found = consensus(projected - cells, J, inside, _SIGMAS_CELLS)
    return found and _marginal(torch.from_numpy(found.step), torch.from_numpy(found.hessian / max(found.variance, _LEAST_VARIANCE)))


def warp_of_residuals(residuals: Residuals, seen: Seen, weights: Tensor, variance: Tensor, kernel: Kernel, trust: float) -> Warp | None:
    """By one linear step from where a search ended; as refinement.lens_evidence.first_step. None where they do not tell."""
    along = residuals.jacobian
    by_warp = _by_warp(-along[..., 1, 5] / seen.camera.fy, along[..., 0, 5] / seen.camera.fx)
    by_warp = by_warp * torch.tensor([[seen.camera.fx], [seen.camera.fy]], dtype=torch.float64)
    whole = replace(residuals, jacobian=torch.cat([along, of_offsets(along, seen.camera), by_warp], -1))
    H, g = (trust * part[0] for part in normal_equations(whole, weights, variance, seen.channels, kernel))
    return _marginal(-torch.linalg.solve(H, g), H) if is_solvable(H) else None


def _marginal(x: Tensor, H: Tensor) -> Warp:
    """Of a step [13] of pose, lens and warp with its Hessian [13, 13]."""
    n = _OF_CAMERA
    information = H[n:, n:] - H[n:, :n] @ torch.linalg.solve(H[:n, :n], H[:n, n:])
    return Warp(x[n:], (information + information.T) / (2 * _ALIKE), -torch.linalg.solve(H[:6, :6], H[:6, n:]))


def _by_warp(x: Tensor, y: Tensor) -> Tensor:
    """Of rays (x, y) at z = 1, [...] each, by the warp: [..., 2, 4]."""
    squared = x * x + y * y
    return torch.stack([torch.stack([x * y * y, y + x * x * y, y * y, x * squared], -1),
                        torch.stack([y + y ** 3, x * y * y, -x * y, y * squared], -1)], -2)
