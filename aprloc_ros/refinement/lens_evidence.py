"""What one image says of the camera that took it, beside its pose: three more columns of the Jacobian.

A wrong focal length or centre moves points in the image in another way than any motion of the camera does, wherever their
depths differ. So what is left over at the best pose tells of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.lens_matches import LensGuess
from aprloc_ros.refinement.levenberg import Kernel, Residuals, normal_equations, robust_cost

BIAS = 1.5e-3        # of what images say of a camera, however many: standard deviation
SUSPICIOUS = 6.0     # doubt of a first step: only then are more steps made
_STEPS = 20          # at most
_NEAR = 5e-4         # a step within it ends them: features know no more, and their stretched steps would go on about the end
_STRETCH = 2.0       # steps on feature maps are too short, see levenberg.LevenbergSettings
_DAMPING = 1e-3      # share of the Hessian's diagonal
_SAME = 0.01         # a guess within it of what was found is no other: so exact are matches at best
_DEPTH = 2           # steps that are looked back on
_SAME_WAY = 0.05     # a way in which the last steps differ by a smaller share of how they differ most is none
_FARTHER = 5.0       # times what a search asks for, at most
_TINY = 1e-20
_FARTHEST = 0.5      # of an offset: beyond, nothing is linear
_CURVED = 0.3        # of how far a doubt moves the pose: to all sides, as the way is no straight line


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
    first_doubt: float = 0.0   # `doubt` of the first linear step
    passed_over: bool = False   # one linear step, though it speaks against the camera: no more than is usual for that one

    @property
    def has_shift(self) -> bool:
        """Whether it is known what a wrong camera does to the pose."""
        return bool(torch.isfinite(self.shift).all())

    @property
    def is_usable(self) -> bool:
        """Looked at, finite, and of a camera that can be: an offset below -1 would turn the focal length round."""
        return not self.passed_over and _can_be(self.offsets) and bool(torch.isfinite(self.information).all())

    @property
    def doubt(self) -> float:
        """Squared distance of the declared camera from what it asks for, in the noise and the bias of such a word."""
        offsets = self.offsets.numpy()
        return float(offsets @ with_bias(self.information.numpy()) @ offsets)

    @property
    def speaks_against(self) -> bool:
        """Whether the declared camera is not what it asks for."""
        return self.doubt >= SUSPICIOUS


def with_bias(information: np.ndarray) -> np.ndarray:
    """What is left of information [..., 3, 3] when all images may be wrong alike."""
    return information @ np.linalg.inv(np.eye(3) + BIAS ** 2 * information)


def widened(covariance: Tensor, further: Tensor) -> Tensor:
    """The covariance [6, 6] of a pose, with a further one of what its image leaves open of the camera, or of itself."""
    squared = torch.diagonal(further).unflatten(0, (2, 3)).sum(1)
    return covariance + further + _CURVED ** 2 * torch.diag(squared.repeat_interleave(3))


def _can_be(offsets: Tensor) -> bool:
    return bool(torch.isfinite(offsets).all()) and offsets.abs().max().item() <= _FARTHEST


def offset_camera(camera: Camera, offsets: Tensor) -> Camera:
    """The camera with its offsets [3] put right."""
    focal, x, y = offsets.tolist()
    return replace(camera, fx=camera.fx * (1 + focal), fy=camera.fy * (1 + focal), cx=camera.cx + x * camera.fx,
                   cy=camera.cy + y * camera.fy)


class _Pace:
    """Steps [9] of a search that comes nearer by about the same shares each time go on to where that would end.

    Anderson's acceleration of depth two (J. ACM 1965), by the offsets, the last three numbers.
    """

    def __init__(self, first: Tensor | None = None):
        self._asked, self._made = ([], []) if first is None else ([first], [first])   # as the search asked for steps, and as they were

    def next(self, step: Tensor) -> Tensor:
        made = step
        if self._made and torch.isfinite(step).all():
            asked = torch.stack([*self._asked, step]).diff(dim=0)
            shares, *_ = np.linalg.lstsq(asked[:, 6:].T.cpu().numpy(), step[6:].cpu().numpy(), rcond=_SAME_WAY)
            further = -torch.from_numpy(shares).to(step) @ (torch.stack(self._made) + asked)
            most = _FARTHER * step[6:].abs().max() / further[6:].abs().max().clamp_min(_TINY)
            made = step + further * most.clamp(max=1.0)
        self._asked, self._made = [*self._asked, step][-_DEPTH:], [*self._made, made][-_DEPTH:]
        return made


@dataclass(frozen=True, eq=False, kw_only=True)
class FirstStep(LensEvidence):
    """The evidence as it is where the residuals are."""

    step: Tensor      # [9]: of the pose and the offsets together
    cost: float
    hessian: Tensor   # [6, 6] of the pose alone, see levenberg.normal_equations; on the residuals' device


def first_step(residuals: Residuals, grid: Seen, weights: Tensor, variance: Tensor, kernel: Kernel, trust: float = 1.0) -> FirstStep:
    """By one linear step: a fraction of a millisecond. trust: share of what is known of pose and offsets that counts."""
    both = replace(residuals, jacobian=torch.cat([residuals.jacobian, of_offsets(residuals.jacobian, grid.camera)], -1))
    hessian, gradient = normal_equations(both, weights, variance, grid.channels, kernel)
    H, g = hessian[0], gradient[0]
    shift = -_solve(H[:6, :6], H[:6, 6:])
    information = H[6:, 6:] + H[6:, :6] @ shift
    offsets = -_solve(information, g[6:] + shift.T @ g[:6])
    step = -_solve(H + _DAMPING * torch.diag(H.diagonal()), g)
    cost = robust_cost(residuals, weights, variance, grid.channels, kernel).item()
    return FirstStep(offsets.cpu(), trust * information.cpu(), shift.cpu(), step=step, cost=cost, hessian=trust * H[:6, :6])


def lens_evidence(first: FirstStep, residuals_at: ResidualsAt, grid: Seen, T_map_cam: Tensor, weights: Tensor, variance: Tensor,
                  kernel: Kernel, usual_doubt: float, guess: Callable[[], LensGuess | None] = lambda: None,
                  stretch: float = _STRETCH, near: float = _NEAR, trust: float = 1.0) -> LensEvidence:
    """At the best pose T_map_cam [4, 4] of a search on the grid, with its first step; weights [1, N], variance [1]; stretch: of
    the steps; near: the last of them; trust: see `first_step`.

    One linear step; several where that one speaks against the declared camera, and from a guess that is far from where they
    end: of two minima the lower one counts. Neither where it doubts less than usual_doubt.
    """
    if not first.doubt >= usual_doubt:   # nor where that is no number
        return replace(first, first_doubt=first.doubt, passed_over=first.speaks_against)

    def linearised(residuals: Residuals, grid: Seen) -> FirstStep:
        found = first_step(residuals, grid, weights, variance, kernel, trust)
        return replace(found, step=stretch * found.step)

    def search(offsets: Tensor, T_map_cam: Tensor, pace: _Pace, known: Tensor | None = None) -> FirstStep | None:
        for _ in range(_STEPS):
            if not _can_be(offsets) or known is not None and _same(offsets, known):
                return None
            moved = replace(grid, camera=offset_camera(grid.camera, offsets))
            found = linearised(residuals_at(moved, T_map_cam), moved)
            if found.step[6:].abs().max() < near:
                break
            step = pace.next(found.step)
            offsets, T_map_cam = offsets + step[6:].cpu(), T_map_cam @ se3_exp(step[:6])
        return replace(found, offsets=offsets) if _can_be(offsets) else None

    found = first
    if first.speaks_against:
        step = stretch * first.step
        found = search(step[6:].cpu(), T_map_cam @ se3_exp(step[:6]), _Pace(step)) or first
    guessed, other = guess(), None
    if guessed is not None and not _same(guessed.offsets, found.offsets):
        other = search(guessed.offsets, guessed.T_map_cam.to(T_map_cam), _Pace(), found.offsets)
    return replace(found if other is None or other.cost >= found.cost else other, first_doubt=first.doubt)


def _same(offsets: Tensor, others: Tensor) -> bool:
    return (offsets - others).abs().max().item() <= _SAME


def _solve(A: Tensor, b: Tensor) -> Tensor:
    """Not finite where A is singular."""
    return torch.linalg.solve_ex(A, b).result


def of_offsets(jacobian: Tensor, camera: Camera) -> Tensor:
    """Of the pixels by the offsets, [1, N, 2, 3], from the pixels' Jacobian by the pose [1, N, 2, 6].

    Along the optical axis a point moves as the focal length would have it, divided by its depth.
    """
    du, dv = jacobian[..., 0, :], jacobian[..., 1, :]
    inverse_depth = (-du[..., 0] / camera.fx).clamp_min(1e-9)
    nothing = torch.zeros_like(inverse_depth)
    return torch.stack([torch.stack([du[..., 2] / inverse_depth, nothing + camera.fx, nothing], -1),
                        torch.stack([dv[..., 2] / inverse_depth, nothing, nothing + camera.fy], -1)], -2)
