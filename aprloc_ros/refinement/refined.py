"""What goes into a refiner and what comes out of it, the same for all of them."""

import time
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.errors import AprlocError
from aprloc_ros.histogram import luminance_histogram


@dataclass(frozen=True, eq=False)
class Query:
    """An image as the map's camera would have seen it."""

    image: Tensor       # [3, h, w] float32 RGB in [0, 1], on the networks' device
    camera: Camera      # rectified pinhole of that size
    histogram: Tensor   # [10] luminance

    def to(self, device: torch.device | str) -> 'Query':
        return replace(self, image=self.image.to(device))


def make_query(image: np.ndarray, source: Camera, target: Camera) -> Query:
    """What the rectified camera `target` would have seen of an image [H, W, 3] uint8 RGB that `source` took."""
    warped = torch.tensor(warp_image(image, source, target)).permute(2, 0, 1).float() / 255
    return Query(warped, target, luminance_histogram(warped))


@dataclass(frozen=True)
class Budget:
    """What a refinement may cost. A budget of zero returns the first start untouched."""

    iterations: int = 50
    milliseconds: float = 300.0

    def __post_init__(self):
        if not (self.iterations >= 0 and self.milliseconds >= 0):
            raise AprlocError(f'budget of {self.iterations} iterations and {self.milliseconds} ms; both must be 0 or more')


DEFAULT_BUDGET = Budget()


class Stopwatch:
    """Says when a budget is spent; starts at its creation."""

    def __init__(self, budget: Budget):
        self.budget, self._start_s = budget, time.perf_counter()

    @property
    def elapsed_ms(self) -> float:
        return 1e3 * (time.perf_counter() - self._start_s)

    @property
    def in_time(self) -> bool:
        return self.elapsed_ms < self.budget.milliseconds

    def allows(self, iterations_done: int) -> bool:
        """Whether another iteration may start."""
        return iterations_done < self.budget.iterations and self.in_time


@dataclass(frozen=True, eq=False)
class Step:
    """One observation on the way, for plots."""

    T_map_cam: Tensor   # [4, 4] float64
    cost: float
    elapsed_ms: float


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined pose and everything by which it may be judged. Costs compare within one refiner and one query alone."""

    T_map_cam: Tensor            # [4, 4] float64; the first start where the refiner failed
    hessian: Tensor              # [6, 6] float64: Gauss-Newton, of half the sum of squared whitened residuals, in xi of T @ exp(xi)
    cost_before: float           # at the first start
    cost_after: float
    iterations: int
    status: str                  # 'converged', 'budget' (stopped by it) or 'failed' (T_map_cam is the first start)
    signals: dict[str, float]    # for the gate: 'inlier_share', 'opacity', 'agreement', ... each in [0, 1], 1 is best
    steps: tuple[Step, ...] = field(default=())

    @property
    def failed(self) -> bool:
        return self.status == 'failed'


class Refiner(Protocol):
    """One of the refiners of a map. Never raises for a query: what cannot be refined is 'failed'."""

    needs_start: bool   # whether `starts` must hold at least one pose; a global localizer needs none

    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        """starts: [S, 4, 4] float64 T_map_cam, the likeliest first (the regressor's, a tracked pose, ...)."""
        ...


def kept(start: Tensor, signals: dict[str, float] | None = None) -> Refined:
    """The result that leaves a pose [4, 4] as it was: nothing could be learned about it."""
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    return Refined(start.double().cpu(), nothing, float('inf'), float('inf'), 0, 'failed', dict(signals or {}))
