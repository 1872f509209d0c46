"""Gradient descent of a pose through a differentiable rendering: what NeFeS and Direct-PoseNet have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.feature_grid import FeatureGrid
from aprloc_ros.refinement.levenberg import Kernel, is_solvable, normal_equations, robust_variance
from aprloc_ros.refinement.refined import Budget, Query, Refined, Step, Stopwatch, kept

SIGNALS = ('opacity', 'cost_drop')

_KERNEL = Kernel(shape=0.0, width=2.385)   # Cauchy at 95 % efficiency, the textbooks' width


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was rendered at a pose, set against the query; both maps scaled as the cost sees them."""

    cost: Tensor       # [], with the graph that leads to the pose
    rendered: Tensor   # [C, H, W]
    target: Tensor     # [C, H, W]
    depth_m: Tensor    # [H, W]
    opacity: Tensor    # [H, W]
    camera: Camera     # H x W, rectified


class Variable(Protocol):
    """Something with parameters that gives a pose."""

    def pose(self) -> Tensor:
        """T_map_cam [4, 4] float64, differentiable."""
        ...

    def step(self) -> bool:
        """Follow the gradients that have been accumulated; False, and no step, where one of them is not finite."""
        ...


class TangentPose:
    """The pose itself, moved in its tangent space, with rates of its own for translation and rotation (NeFeS section 3.3)."""

    def __init__(self, T_map_cam: Tensor, translation_rate: float, rotation_rate: float):
        self._T_map_cam = T_map_cam.double().cpu()
        self._xi = [torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        self._adam = torch.optim.Adam([{'params': [self._xi[0]], 'lr': translation_rate},
                                       {'params': [self._xi[1]], 'lr': rotation_rate}])

    def pose(self) -> Tensor:
        return self._T_map_cam @ se3_exp(torch.cat(self._xi))

    def step(self) -> bool:
        if not step(self._adam):
            return False
        with torch.no_grad():
            self._T_map_cam = self.pose()
            for part in self._xi:
                part.zero_()
        return True


def step(optimiser: torch.optim.Optimizer) -> bool:
    """One step and gradients cleared; False, and no step, where a gradient is not finite."""
    gradients = [p.grad for group in optimiser.param_groups for p in group['params'] if p.grad is not None]
    if not all(torch.isfinite(gradient).all() for gradient in gradients):
        return False
    optimiser.step()
    optimiser.zero_grad()
    return True


class DescentRefiner:
    """The frame of a refiner that descends: what it is compared by is its subclass's, and so is what moves, if not the pose."""

    def __init__(self, settings):
        """settings: `iterations`, and the rates of TangentPose where the pose moves."""
        self._settings = settings

    def _variable(self, query: Query, start: Tensor) -> Variable:
        return TangentPose(start, self._settings.translation_rate, self._settings.rotation_rate)

    def _compare(self, query: Query) -> Callable[[Tensor], Comparison]:
        raise NotImplementedError

    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        """starts: [S, 4, 4] float64 T_map_cam; the first is the result where refinement failed."""
        watch = Stopwatch(budget)
        nothing = dict.fromkeys(SIGNALS, 0.0)
        if not (watch.allows(0) and torch.isfinite(starts[0]).all() and torch.isfinite(query.image).all()):
            return kept(starts[0], nothing, watch)
        # Wherever the caller has turned gradients off, these are tensors that they pass through.
        with torch.inference_mode(False), torch.enable_grad():
            query = replace(query, image=query.image.clone(), histogram=query.histogram.clone())
            variable = self._variable(query, starts[0].clone())
            found = descend(variable, self._compare(query), self._settings.iterations, watch)
            return found or kept(starts[0], nothing, watch)


def descend(variable: Variable, compare: Callable[[Tensor], Comparison], iterations: int,
            watch: Stopwatch) -> Refined | None:
    """Follow the gradient of the cost; the last pose is the result, as in the papers.

    None where numbers were not finite, the cost did not fall or the rendering says nothing about the pose.
    """
    steps = []
    while True:
        T_map_cam = variable.pose()
        seen = compare(T_map_cam)
        steps.append(Step(T_map_cam.detach().cpu(), seen.cost.item(), watch.elapsed_ms))
        done = len(steps) - 1
        if not torch.isfinite(seen.cost):
            return None
        if done == iterations or not watch.allows(done):
            break
        seen.cost.backward()
        if not variable.step():
            return None
    hessian = warp_hessian(seen, steps[-1].T_map_cam)
    before, after = steps[0].cost, steps[-1].cost
    if not (done and after < before and is_solvable(hessian)):
        return None
    signals = (seen.opacity.mean().item(), 1 - after / before)
    return Refined(steps[-1].T_map_cam, hessian, before, after, done, watch.verdict,
                   {name: min(max(value, 0.0), 1.0) for name, value in zip(SIGNALS, signals)}, tuple(steps))


@torch.no_grad()
def warp_hessian(seen: Comparison, T_map_cam: Tensor) -> Tensor:
    """Gauss-Newton Hessian [6, 6] of the whitened differences, on the CPU.

    Each rendered pixel is a point in the map that stays what it is; the target is read where the point moves with the
    camera. So the slope is the target's, and nothing is rendered again.
    """
    device = seen.rendered.device
    T = T_map_cam.to(device)
    in_camera = seen.camera.directions().to(device).view(-1, 3).double() * seen.depth_m.detach().double().view(-1, 1)
    points = in_camera @ T[:3, :3].T + T[:3, 3]
    grid = FeatureGrid.of(seen.target, seen.camera)
    residuals = grid.residuals(points[None], seen.rendered.flatten(1).T[None], T[None])
    components = len(seen.target)
    variance = robust_variance(residuals.squared, residuals.seen, components)
    weights = seen.opacity.double().view(1, -1)
    return normal_equations(residuals, weights, variance, components, _KERNEL)[0][0].cpu()
