"""Robust Levenberg-Marquardt on SE(3), over several starting poses at once."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aprloc_ros.geometry import se3_exp

_LEAST_VARIANCE = 1e-10
_SOLVABLE = 1e-9       # smallest eigenvalue of a Hessian scaled to a unit diagonal


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residual vectors of S x N points, first order: r(T @ exp(xi)) = r + D J xi, where D leads from K coordinates to r.

    D itself, as wide as a descriptor, is not kept: steps need D^T r and D^T D alone.
    """

    squared: Tensor     # [S, N] squared length of r; of no meaning where the point is not seen
    slope: Tensor       # [S, N, K] D^T r; zero where the point is not seen
    metric: Tensor      # [S, N, K, K] D^T D; zero where the point is not seen
    jacobian: Tensor    # [S, N, K, 6] J: the coordinates' motion with xi
    seen: Tensor        # [S, N] bool

    def where(self, chosen: Tensor, other: 'Residuals') -> 'Residuals':
        """These for the starts that are chosen [S], the other's for the rest."""
        def pick(mine, its):
            return torch.where(chosen.view(-1, *(1,) * (mine.dim() - 1)), mine, its)
        return Residuals(*(pick(getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Kernel:
    """Barron's general robust loss (A General and Adaptive Robust Loss Function, CVPR 2019, Eq. 1).

    shape: 2 is least squares, 1 much like Huber, 0 Cauchy, -2 Geman-McClure. width: in standard deviations. The defaults
    were chosen with learned descriptors on calibration frames of RedKitchen.
    """

    shape: float = field(default=-2.0, metadata={'range': (-16.0, 2.0)})
    width: float = field(default=0.5, metadata={'range': (0.1, 100.0)})

    def cost(self, z: Tensor) -> Tensor:
        """z: squared whitened residuals, any shape -> cost in units of half of z, equal to it near zero."""
        x = z / self.width ** 2
        if self.shape == 2:
            rho = x / 2
        elif self.shape == 0:
            rho = torch.log1p(x / 2)
        else:
            b = abs(self.shape - 2)
            rho = b / self.shape * torch.expm1(self.shape / 2 * torch.log1p(x / b))
        return self.width ** 2 * rho

    def weight(self, z: Tensor) -> Tensor:
        """Twice the derivative of the cost by z: 1 at zero, falling with z."""
        x = z / self.width ** 2
        if self.shape == 2:
            return torch.ones_like(x)
        b = abs(self.shape - 2)
        return (x / b + 1) ** (self.shape / 2 - 1)


@dataclass(frozen=True)
class LevenbergSettings:
    """How steps are damped and stretched, and when there are enough of them.

    Steps on feature maps are too short: what differs for other reasons than the pose adds to the metric as if it were
    slope (errors in variables). So steps are stretched until one fails.
    """

    damping: float = field(default=1e-3, metadata={'range': (1e-12, 1e6)})        # share of the Hessian's diagonal
    easing: float = field(default=8.0, metadata={'range': (1.1, 1e3)})            # the damping's factor at each step
    stretch: float = field(default=2.0, metadata={'range': (1.0, 10.0)})          # of the first step; doubles while it pays
    longest_stretch: float = field(default=8.0, metadata={'range': (1.0, 100.0)})
    tolerance_m: float = field(default=1e-4, metadata={'range': (0.0, 1.0)})      # steps below both end the search
    tolerance_rad: float = field(default=1e-5, metadata={'range': (0.0, 1.0)})
    kernel: Kernel = field(default_factory=Kernel)


@dataclass(frozen=True, eq=False)
class Solution:
    """Where S searches ended."""

    T_map_cam: Tensor        # [S, 4, 4] float64
    residuals: Residuals
    variance: Tensor         # [S] of one component of a residual, robust
    iterations: int
    converged: bool          # every start: its last step was below the tolerances, or no step helps


def robust_variance(squared: Tensor, seen: Tensor, components: int) -> Tensor:
    """Variance of one component of residual vectors, from the median of their squared lengths (about zero).

    For normal residuals a squared length has chi-square's median, components * (1 - 2 / (9 * components))^3 times the
    variance (Wilson and Hilferty); with one component this is the median absolute deviation. squared, seen [S, N] -> [S].
    """
    median = squared.masked_fill(~seen, float('nan')).nanmedian(-1).values
    unit = components * (1 - 2 / (9 * components)) ** 3
    return (median / unit).nan_to_num(0.0).clamp_min(_LEAST_VARIANCE)


def normal_equations(residuals: Residuals, weights: Tensor, variance: Tensor, components: int,
                     kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Gauss-Newton Hessian [S, 6, 6] and gradient [S, 6], float64, of half the weighted sum of squared whitened residuals.

    weights: [S, N] of the points, on top of the kernel's; variance: [S].
    """
    w = weights * kernel.weight(residuals.squared / (components * variance[:, None])) / variance[:, None]
    J = residuals.jacobian.flatten(1, 2)
    metric_J = (w[..., None, None] * residuals.metric) @ residuals.jacobian
    gradient = (w.unsqueeze(-1) * residuals.slope).flatten(1).unsqueeze(-1)
    return J.mT @ metric_J.flatten(1, 2), (J.mT @ gradient).squeeze(-1)


def is_solvable(hessian: Tensor) -> bool:
    """Whether a Hessian [K, K] fixes all directions."""
    diagonal = torch.diagonal(hessian)
    if not (torch.isfinite(hessian).all() and (diagonal > 0).all()):
        return False
    scale = diagonal.rsqrt()
    return torch.linalg.eigvalsh(scale[:, None] * hessian * scale)[0].item() > _SOLVABLE


def nearness_m(xyz: Tensor, T_map_cam: Tensor) -> float:
    """The tolerance_m that goes with tolerance_rad: so small a turn moves what is seen as much. xyz [N, 3], T_map_cam [4, 4].

    In metres a map of another unit, or of a smaller place, would end its searches elsewhere.
    """
    return LevenbergSettings.tolerance_rad * (xyz - T_map_cam[:3, 3].to(xyz)).norm(dim=1).median().item()


def minimise(T_map_cam: Tensor, linearise: Callable[[Tensor], Residuals], weights: Tensor, components: int,
             settings: LevenbergSettings, allows: Callable[[int], bool],
             observe: Callable[[Tensor, Residuals], None] = lambda T, residuals: None) -> Solution:
    """Search from every start at once; each start has its own damping, scale and acceptance.

    T_map_cam: [S, 4, 4] float64; linearise: poses -> residuals of `components` numbers; weights: [S, N];
    allows: whether another iteration may follow that many; observe: called behind each iteration.
    Never raises for numbers: a start that cannot move stays.
    """
    kernel = settings.kernel
    state = linearise(T_map_cam)
    variance = robust_variance(state.squared, state.seen, components)
    state = replace(state, squared=torch.where(state.seen, state.squared, components * variance[:, None]))
    damping = torch.full_like(variance, settings.damping)
    stretch = torch.full_like(variance, min(settings.stretch, settings.longest_stretch))
    done = torch.zeros_like(variance, dtype=torch.bool)
    iterations = 0
    while not done.all() and allows(iterations):
        hessian, gradient = normal_equations(state, weights, variance, components, kernel)
        xi = stretch[:, None] * damped_step(hessian, gradient, damping)
        T_candidate = T_map_cam @ se3_exp(xi)
        candidate = linearise(T_candidate)
        # A point that leaves the view keeps its cost: to look away from points must neither pay nor cost.
        candidate = replace(candidate, squared=torch.where(candidate.seen, candidate.squared, state.squared))
        after, before = (robust_cost(where, weights, variance, components, kernel) for where in (candidate, state))
        better = after < before
        T_map_cam = torch.where(better[:, None, None], T_candidate, T_map_cam)
        state = candidate.where(better, state)
        # A stretched step that failed says nothing against the step itself.
        damping = torch.where(better | (stretch > 1), damping / settings.easing, damping * settings.easing)
        stretch = torch.where(better, (2 * stretch).clamp_max(settings.longest_stretch), 1.0)
        small = (xi[:, :3].norm(dim=-1) < settings.tolerance_m) & (xi[:, 3:].norm(dim=-1) < settings.tolerance_rad)
        done |= small
        # The scale only shrinks, so that costs keep falling and the search ends.
        variance = torch.minimum(variance, robust_variance(state.squared, state.seen, components))
        iterations += 1
        observe(T_map_cam, state)
    return Solution(T_map_cam, state, variance, iterations, bool(done.all()))


def damped_step(hessian: Tensor, gradient: Tensor, damping: Tensor) -> Tensor:
    """The damped step, [S, 6]; zero where the equations have no solution."""
    diagonal = torch.diagonal(hessian, dim1=-2, dim2=-1)
    # A little of the mean keeps directions that nothing was seen of out of the solution.
    extra = damping[:, None] * diagonal + 1e-9 * diagonal.mean(-1, keepdim=True) + 1e-300
    L, failed = torch.linalg.cholesky_ex(hessian + torch.diag_embed(extra))
    xi = -torch.cholesky_solve(gradient.unsqueeze(-1), L).squeeze(-1)
    return torch.where((failed == 0)[:, None], xi, 0.0).nan_to_num(0.0, 0.0, 0.0)


def robust_cost(residuals: Residuals, weights: Tensor, variance: Tensor, components: int, kernel: Kernel) -> Tensor:
    """Of each start [S]: half the robust sum of squared whitened residuals. weights [S, N], variance [S]."""
    z = residuals.squared / (components * variance[:, None])
    return (weights * kernel.cost(z)).sum(-1)
