"""What one image says of the camera that took it, beside its pose: three more columns of the Jacobian.

A wrong focal length or centre moves points in the image in another way than any motion of the camera does, wherever their
depths differ. So what is left over at the best pose tells of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.levenberg import Kernel, Residuals, normal_equations

_SUSPICIOUS = 6.0    # squared distance of a first step from zero: only then are more steps made
_STEPS = 20          # at most
_NEAR = 1e-4         # a step within it ends them
_STRETCH = 2.0       # steps on feature maps are too short, see levenberg.LevenbergSettings
_DAMPING = 1e-3      # share of the Hessian's diagonal
_FARTHEST = 0.5      # of an offset: beyond, nothing is linear


class Seen(Protocol):
    """A dataclass of what is seen, a FeatureGrid or like one: its residuals have so many channels."""

    camera: Camera   # rectified, in whose pixels the residuals' Jacobian is
    channels: int


# What is seen and a pose [4, 4] -> residuals of one start.
ResidualsAt = Callable[[Seen, Tensor], Residuals]


@dataclass(frozen=True, eq=False)
class LensEvidence:
    """Offsets of a camera: of its focal length, relative, and of its centre to the right and down, in focal lengths."""

    offsets: Tensor       # [3] float64, that the image asks for
    information: Tensor   # [3, 3] float64, of them whatever the pose, as residuals would have it that were independent
    shift: Tensor         # [6, 3] float64: xi of T_true = T_map_cam @ exp(xi) is shift @ the true offsets

    @property
    def is_usable(self) -> bool:
        """Finite, and of a camera that can be: an offset below -1 would turn the focal length round."""
        return (all(bool(torch.isfinite(part).all()) for part in (self.offsets, self.information, self.shift))
                and self.offsets.abs().max().item() <= _FARTHEST)


def offset_camera(camera: Camera, offsets: Tensor) -> Camera:
    """The camera with its offsets [3] put right."""
    focal, x, y = offsets.tolist()
    return replace(camera, fx=camera.fx * (1 + focal), fy=camera.fy * (1 + focal), cx=camera.cx + x * camera.fx,
                   cy=camera.cy + y * camera.fy)


def lens_evidence(residuals: Residuals, residuals_at: ResidualsAt, grid: Seen, T_map_cam: Tensor, weights: Tensor,
                  variance: Tensor, kernel: Kernel, stretch: float = _STRETCH) -> LensEvidence:
    """At the best pose T_map_cam [4, 4] of a search on the grid, with the residuals there; weights [1, N], variance [1];
    stretch: of the steps.

    One linear step, which costs a fraction of a millisecond; several where that one leads away from zero.
    """
    found = first = _linearised(residuals, grid, weights, variance, kernel)
    if first.offsets @ first.information @ first.offsets < _SUSPICIOUS:
        return found
    total = torch.zeros(3, dtype=torch.float64)
    for _ in range(_STEPS):
        step = stretch * found.step
        total, T_map_cam = total + step[6:].cpu(), T_map_cam @ se3_exp(step[:6])
        if not torch.isfinite(total).all() or total.abs().max() > _FARTHEST:
            return first
        moved = replace(grid, camera=offset_camera(grid.camera, total))
        found = _linearised(residuals_at(moved, T_map_cam), moved, weights, variance, kernel)
        if step[6:].abs().max() < _NEAR:
            break
    return LensEvidence(total, found.information, found.shift)


@dataclass(frozen=True, eq=False)
class _Linearised(LensEvidence):
    step: Tensor   # [9]: of the pose and the offsets together


def _linearised(residuals: Residuals, grid: Seen, weights: Tensor, variance: Tensor, kernel: Kernel) -> _Linearised:
    both = replace(residuals, jacobian=torch.cat([residuals.jacobian, _of_offsets(residuals.jacobian, grid.camera)], -1))
    hessian, gradient = normal_equations(both, weights, variance, grid.channels, kernel)
    H, g = hessian[0], gradient[0]
    shift = -_solve(H[:6, :6], H[:6, 6:])
    information = H[6:, 6:] + H[6:, :6] @ shift
    offsets = -_solve(information, g[6:] + shift.T @ g[:6])
    step = -_solve(H + _DAMPING * torch.diag(H.diagonal()), g)
    return _Linearised(offsets.cpu(), information.cpu(), shift.cpu(), step)


def _solve(A: Tensor, b: Tensor) -> Tensor:
    """Not finite where A is singular."""
    return torch.linalg.solve_ex(A, b).result


def _of_offsets(jacobian: Tensor, camera: Camera) -> Tensor:
    """Of the pixels by the offsets, [1, N, 2, 3], from the pixels' Jacobian by the pose [1, N, 2, 6].

    Along the optical axis a point moves as the focal length would have it, divided by its depth.
    """
    du, dv = jacobian[..., 0, :], jacobian[..., 1, :]
    inverse_depth = (-du[..., 0] / camera.fx).clamp_min(1e-9)
    nothing = torch.zeros_like(inverse_depth)
    return torch.stack([torch.stack([du[..., 2] / inverse_depth, nothing + camera.fx, nothing], -1),
                        torch.stack([dv[..., 2] / inverse_depth, nothing, nothing + camera.fy], -1)], -2)
