"""What goes into a refiner and what comes out of it, the same for all of them."""

import math
import time
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.errors import AprlocError
from aprloc_ros.histogram import luminance_histogram
from aprloc_ros.networks.extractor import Features
from aprloc_ros.refinement.lens_evidence import LensEvidence
from aprloc_ros.refinement.luminance import Luminance
from aprloc_ros.refinement.warp import Warp


@dataclass(frozen=True, eq=False)
class Query:
    """An image as the map's camera would have seen it."""

    image: Tensor       # [3, h, w] float32 RGB in [0, 1], on the networks' device
    camera: Camera      # rectified pinhole of that size
    histogram: Tensor   # [10] luminance
    native: Luminance | None = None   # the image as its camera gave it
    features: Features | None = None   # of `image`, where somebody has extracted them already
    usual_doubt: float = 0.0   # of the camera (LensEvidence): up to it there is nothing new, and no need to look closely

    def to(self, device: torch.device | str) -> 'Query':
        return replace(self, image=self.image.to(device), features=self.features and self.features.to(device))


def make_query(image: np.ndarray, source: Camera, target: Camera) -> Query:
    """What the rectified camera `target` would have seen of an image [H, W, 3] uint8 RGB that `source` took."""
    warped = torch.tensor(warp_image(image, source, target)).permute(2, 0, 1).float() / 255
    return Query(warped, target, luminance_histogram(warped), Luminance(image, source))


@dataclass(frozen=True)
class Budget:
    """What a refinement may cost; an answer that it cuts short is not one. By default there is no deadline."""

    iterations: int = 50
    milliseconds: float = math.inf

    def __post_init__(self):
        if not (self.iterations >= 0 and self.milliseconds >= 0):
            raise AprlocError(f'budget of {self.iterations} iterations and {self.milliseconds} ms; both must be 0 or more')


UNHURRIED = Budget()
PACED = Budget(milliseconds=300.0)   # of a node, by default: its camera does not wait

CONVERGED, OUT_OF_TIME, OUT_OF_ITERATIONS, FAILED = 'converged', 'out of time', 'out of iterations', 'failed'


class Stopwatch:
    """Says when a budget is spent, and remembers whether it had to; starts at its creation."""

    def __init__(self, budget: Budget):
        self.budget, self._start_s = budget, time.perf_counter()
        self.verdict = CONVERGED   # OUT_OF_TIME or OUT_OF_ITERATIONS from the first refusal on

    @property
    def elapsed_ms(self) -> float:
        return 1e3 * (time.perf_counter() - self._start_s)

    def in_time(self) -> bool:
        """Whether there is time to go on. Ask only where there is something left to do: a no is remembered."""
        if self.elapsed_ms >= self.budget.milliseconds:
            self._refuse(OUT_OF_TIME)
            return False
        return True

    def allows(self, iterations_done: int) -> bool:
        """Whether another iteration may start, asked as `in_time` is."""
        if iterations_done >= self.budget.iterations:
            self._refuse(OUT_OF_ITERATIONS)
            return False
        return self.in_time()

    def _refuse(self, verdict: str) -> None:
        if self.verdict == CONVERGED:
            self.verdict = verdict


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
    status: str                  # CONVERGED, OUT_OF_TIME, OUT_OF_ITERATIONS or FAILED (T_map_cam is the first start)
    signals: dict[str, float]    # for the gate: 'inlier_share', 'opacity', 'agreement', ... each in [0, 1], 1 is best
    steps: tuple[Step, ...] = field(default=())
    lens: LensEvidence | None = None   # what the image says of its camera, from refiners that can tell
    warp: Warp | None = None           # and of what no camera does, by its matches
    patch_warp: Warp | None = None     # and by its patches, as their residuals promise
    is_torn: bool = False              # by its matches: its upper and lower rows are of two moments

    @property
    def failed(self) -> bool:
        """Whether this is no answer: nothing was found, or the budget ended the search somewhere on its way."""
        return self.status != CONVERGED

    @property
    def cut_short(self) -> bool:
        return self.status in (OUT_OF_TIME, OUT_OF_ITERATIONS)


class Refiner(Protocol):
    """One of the refiners of a map. Never raises for a query: what cannot be refined is 'failed'."""

    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        """starts: [S, 4, 4] float64 T_map_cam, the likeliest first (the regressor's, a tracked pose, ...); none for those that look
        everywhere, `nre` and `align`."""
        ...


def kept(start: Tensor, signals: dict[str, float] | None = None, watch: Stopwatch | None = None) -> Refined:
    """The result that leaves a pose [4, 4] as it was: nothing could be learned about it, or not in the watch's budget."""
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    status = FAILED if watch is None or watch.verdict == CONVERGED else watch.verdict
    return Refined(start.double().cpu(), nothing, math.inf, math.inf, 0, status, dict(signals or {}))
