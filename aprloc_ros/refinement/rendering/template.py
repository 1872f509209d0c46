"""A rendered surface with the slopes of what was rendered, and the pose at which a query shows it (inverse compositional).

The slope of a query's features is mostly noise. Along it steps are too short (errors in variables), and where the query
is the less like the map the nearer to its border, it draws every point inwards and the pose backwards. What was rendered
is smooth: its slopes know of neither (Baker and Matthews, Lucas-Kanade 20 Years On, IJCV 2004, section 3.2).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.feature_grid import FeatureGrid, project
from aprloc_ros.refinement.levenberg import Kernel, Residuals, damped_step, normal_equations, robust_variance
from aprloc_ros.refinement.rendering.surface import Surface

RAYS = 4         # of a point
_ARM_PX = 1.0    # from a point to its rays
_CROSS = ((_ARM_PX, 0.0), (-_ARM_PX, 0.0), (0.0, _ARM_PX), (0.0, -_ARM_PX))
_EDGE = 0.1      # nearest to farthest depth of a point's rays, less one: weight 1/2
_DAMPING = 1e-3  # share of the Hessian's diagonal


def crosses(pixels: Tensor) -> Tensor:
    """The rays of points at pixels [N, 2] -> [4 N, 2]: right, left, below and above of each."""
    return (pixels[:, None] + pixels.new_tensor(_CROSS)).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Template:
    """N points with what was rendered there and how it changes in the image."""

    points: Tensor        # [N, 3] float64, map frame, metres
    descriptors: Tensor   # [N, C] float32, unit length
    slopes: Tensor        # [N, 2, C]: by u and v of the pose that it was rendered from
    metric: Tensor        # [N, 2, 2] float64: slopes times slopes
    weights: Tensor       # [N] float64 in [0, 1]

    @classmethod
    def of(cls, surface: Surface) -> 'Template':
        """From the surface of one pose along `crosses`."""
        descriptors = F.normalize(surface.descriptors[0], dim=-1).unflatten(0, (-1, RAYS))
        right, left, below, above = descriptors.unbind(1)
        slopes = torch.stack([right - left, below - above], 1) / (2 * _ARM_PX)
        depths_m = surface.depth_m[0].unflatten(0, (-1, RAYS))
        edge = depths_m.amax(1) / depths_m.amin(1).clamp_min(1e-9) - 1
        weights = surface.weights[0].unflatten(0, (-1, RAYS)).amin(1) / (1 + (edge / _EDGE) ** 2)
        return cls(surface.points[0].unflatten(0, (-1, RAYS)).mean(1), F.normalize(descriptors.mean(1), dim=-1), slopes,
                   (slopes @ slopes.mT).double(), weights.nan_to_num(0.0))

    def residuals(self, grid: FeatureGrid, T_map_cam: Tensor) -> Residuals:
        """The query at the projected points less what was rendered there, first order along what was rendered.

        T_map_cam: [4, 4] -> residuals of one start.
        """
        pixels, jacobian, seen = project(self.points[None], T_map_cam[None], grid.camera)
        difference = grid.sample(pixels[0])[0] - self.descriptors
        slope = torch.linalg.vecdot(self.slopes, difference[:, None]).double()
        return Residuals(difference.square().sum(-1)[None].double(), slope[None] * seen[..., None],
                         self.metric[None] * seen[..., None, None], jacobian, seen)


@dataclass(frozen=True, eq=False)
class Fit:
    """Where a template fits."""

    T_map_cam: Tensor       # [4, 4] float64
    residuals: Residuals    # of one start
    variance: Tensor        # [1] of one component of a residual

    @classmethod
    def of(cls, T_map_cam: Tensor, residuals: Residuals, grid: FeatureGrid) -> 'Fit':
        return cls(T_map_cam, residuals, robust_variance(residuals.squared, residuals.seen, grid.cells.shape[1]))


def fit(template: Template, grid: FeatureGrid, T_map_cam: Tensor, kernel: Kernel, tolerance_rad: float, tolerance_m: float,
        allows: Callable[[int], bool], observe: Callable[[Tensor], None]) -> Fit:
    """Gauss-Newton steps from T_map_cam [4, 4] until one is below both tolerances or no further one is allowed.

    The steps seek where the slopes see no displacement. That is not where the residuals are least, so these do not judge
    them; whether all of them together have led astray is for the caller to say.
    """
    done, small = 0, False
    while True:
        found = Fit.of(T_map_cam, template.residuals(grid, T_map_cam), grid)
        if small or not allows(done):
            return found
        hessian, gradient = normal_equations(found.residuals, template.weights[None], found.variance, grid.cells.shape[1],
                                             kernel)
        xi = damped_step(hessian, gradient, hessian.new_full((1,), _DAMPING))[0]
        T_map_cam, done = T_map_cam @ se3_exp(xi), done + 1
        small = bool(xi[:3].norm() < tolerance_m) and bool(xi[3:].norm() < tolerance_rad)
        observe(T_map_cam)
