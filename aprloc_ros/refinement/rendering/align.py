"""Alignment of a rendered surface with the query's features: two renderings, and at most ten steps.

The field is rendered along chosen rays from the starts, and once more from where these led; no gradient passes through
it. What each ray met is a point in the map with the descriptor it should have. First its likeliest places anywhere in the
query are asked for, so that the starts need not be near; last the pose is sought at which the query shows what was
rendered, by Gauss and Newton's steps with analytic Jacobians and the rendering's own slopes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.refinement import gnc
from aprloc_ros.refinement.feature_grid import FeatureGrid, pooled
from aprloc_ros.refinement.lens_evidence import first_step, lens_evidence
from aprloc_ros.refinement.levenberg import Kernel, Residuals, is_solvable, normal_equations
from aprloc_ros.refinement.points.minimal import msac
from aprloc_ros.refinement.refined import Budget, Query, Refined, Step, Stopwatch, kept
from aprloc_ros.refinement.rendering.surface import Surface, choose_pixels, render_surface
from aprloc_ros.refinement.rendering.surface_maps import SurfaceMaps, maps_anywhere
from aprloc_ros.refinement.rendering.template import RAYS, Fit, Template, crosses, fit
from aprloc_ros.scene import SceneNormalisation

Extract = Callable[[Tensor], Sequence[Tensor]]
SIGNALS = ('inlier_share', 'opacity', 'agreement', 'cost_drop')

_UNRELATED = 2.0    # squared distance of unit vectors that have nothing to do with each other
_SMALLEST_MAP = 12  # cells of the shorter side of a pooled map
_LEAST_POINTS = 12  # sum of the points' weights
_LEAST_SEEN = 0.25  # share of the points in view, for a cost that says something


@dataclass(frozen=True)
class AlignSettings:
    """Rays, and the steps of the alignment in their order.

    sigmas: one step on the first maps each, by the width of its kernel in their cells. The defaults were chosen on the
    demo's second drive and on calibration frames of RedKitchen.
    """

    rays: int = field(default=1536, metadata={'range': (64, 65536)})         # from the starts, shared among them
    final_rays: int = field(default=2048, metadata={'range': (64, 65536)})   # from where they led, four for each point
    pooling: int = field(default=2, metadata={'range': (1, 64)})             # cells that are averaged for the first maps
    triples: int = field(default=960, metadata={'range': (1, 100_000)})      # of MSAC, at most
    sigmas: tuple[float, ...] = field(default=(2.0, 2.0, 1.0, 1.0), metadata={'range': (0.1, 100.0)})
    metric_iterations: int = field(default=6, metadata={'range': (0, 100)})  # of Gauss and Newton, at most
    tolerance_cells: float = field(default=0.05, metadata={'range': (0.0, 1.0)})   # a step within it ends them
    inlier_cosine: float = field(default=0.7, metadata={'range': (-1.0, 1.0)})
    cost_rise: float = field(default=0.01, metadata={'range': (0.0, 1.0)})     # beyond it: failed
    seed: int = field(default=0, metadata={'range': (0, None)})
    kernel: Kernel = field(default_factory=Kernel)


class AlignRefiner:
    """Needs no more of the field than two renderings of some rays.

    extract: image [1, 3, h, w] in [0, 1] -> feature maps [1, C, H, W]; the first, the finest, is used. The field renders
    features in its space; AprlocError where it does not.
    """

    def __init__(self, radiance: nn.Module, scene: SceneNormalisation, extract: Extract,
                 settings: AlignSettings | None = None):
        self._radiance, self._scene, self._extract = radiance, scene, extract
        self._settings = settings or AlignSettings()

    @torch.no_grad()
    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        """starts: [S, 4, 4] float64 T_map_cam. What cannot be aligned, or ends worse than it began, is 'failed'."""
        watch = Stopwatch(budget)
        first, starts = starts[0], starts[torch.isfinite(starts).flatten(1).all(1)].to(query.image.device)
        return self._seek(query, starts, watch) or kept(first, dict.fromkeys(SIGNALS, 0.0), watch)

    def _seek(self, query: Query, starts: Tensor, watch: Stopwatch) -> Refined | None:
        if not (watch.allows(0) and len(starts)):
            return None
        features = self._extract(query.image[None])[0][0].float()
        if not torch.isfinite(features).all() or min(features.shape[1:]) < 2:
            return None
        return self._align(query, F.normalize(features, dim=0), starts, watch)

    def _align(self, query: Query, features: Tensor, starts: Tensor, watch: Stopwatch) -> Refined | None:
        s, (height, width) = self._settings, features.shape[1:]
        grid = FeatureGrid.of(features, query.camera.resized(width, height))
        strength = _edge_strength(features)

        def render(T_map_cam: Tensor, pixels: Tensor) -> Surface:
            return render_surface(self._radiance, self._scene, grid.camera, pixels, T_map_cam, query.histogram)

        def chosen(count: int) -> Tensor:
            return choose_pixels(strength, max(count, 1), torch.Generator().manual_seed(s.seed))
        surface = render(starts, chosen(s.rays // len(starts)))
        _check_channels(surface, grid)
        cost_before = costs(_residuals(grid, surface[:1], starts[:1]), surface[:1])[0].item()
        search = _Search(s, watch, grid)
        maps = maps_anywhere(surface, pooled(features, grid.camera, _factor(s.pooling, height, width)))
        found = msac(maps.losses, maps.xyz, maps.camera, maps.groups, invert(starts).cpu().numpy(), s.triples,
                     np.random.default_rng(s.seed), watch.in_time)
        if found is None or found.score <= 0:
            return None
        agreement = 1 - found.runner_up / max(found.score, 1e-9)
        T = search.descend(maps, found.T_cam_map, surface)
        if not search.may_go_on():
            surface = surface[:1]
            return search.result(Fit.of(T, _residuals(grid, surface, T[None]), grid), surface.weights, surface, cost_before, agreement)
        surface = render(T[None], crosses(chosen(s.final_rays // RAYS)))
        template = Template.of(surface)
        found, weights = search.finish(template, T, surface), template.weights[None]
        result = search.result(found, weights, surface, cost_before, agreement)
        if result is None:
            return None
        first = first_step(found.residuals, grid, weights, found.variance, s.kernel)
        return replace(result, lens=lens_evidence(first, template.residuals, grid, found.T_map_cam, weights, found.variance, s.kernel,
                                                  query.usual_doubt))


class _Search:
    """Spends a budget on steps, and keeps what was seen on the way."""

    def __init__(self, settings: AlignSettings, watch: Stopwatch, grid: FeatureGrid):
        self._settings, self._watch, self._grid = settings, watch, grid
        self._steps: list[Step] = []

    def may_go_on(self) -> bool:
        return self._watch.allows(len(self._steps))

    def descend(self, maps: SurfaceMaps, T_cam_map: np.ndarray, surface: Surface) -> Tensor:
        """Steps on the loss maps, as far as the budget goes; T_cam_map [4, 4] -> T_map_cam [4, 4]."""
        for sigma in self._settings.sigmas:
            if not self.may_go_on():
                break
            T_cam_map = gnc.minimise(maps.losses, maps.xyz, maps.camera, T_cam_map, sigma, 1).T_cam_map
            T_map_cam = _to_map(T_cam_map, surface)
            self._note(T_map_cam, costs(_residuals(self._grid, surface[:1], T_map_cam[None]), surface[:1]))
        return _to_map(T_cam_map, surface)

    def finish(self, template: Template, T_map_cam: Tensor, surface: Surface) -> Fit:
        """Steps on the features themselves, from one pose [4, 4]."""
        s, before = self._settings, len(self._steps)
        step_rad = s.tolerance_cells / self._grid.camera.fx
        return fit(template, self._grid, T_map_cam, s.kernel, step_rad, step_rad * surface.median_depth_m.min().item(),
                   lambda done: done < s.metric_iterations and self._watch.allows(before + done),
                   lambda T: self._note(T, costs(_residuals(self._grid, surface, T[None]), surface)))

    def result(self, found: Fit, weights: Tensor, surface: Surface, cost_before: float, agreement: float) -> Refined | None:
        """The pose of a fit of points with weights [1, N] as a result, its cost by a surface; None where it says nothing
        about the pose or is worse than the start.
        """
        hessian = normal_equations(found.residuals, weights, found.variance, self._grid.cells.shape[1],
                                   self._settings.kernel)[0][0].cpu()
        residuals = _residuals(self._grid, surface, found.T_map_cam[None])
        cost_after = costs(residuals, surface)[0].item()
        if not (self._steps and surface.weights.sum() >= _LEAST_POINTS and is_solvable(hessian)
                and cost_after <= cost_before + self._settings.cost_rise):
            return None
        cosine = 1 - residuals.squared / 2
        inliers = surface.weights * (residuals.seen & (cosine > self._settings.inlier_cosine))
        signals = (inliers.mean().item(), surface.opacity.mean().item(), agreement,
                   1 - cost_after / max(cost_before, 1e-12))
        return Refined(found.T_map_cam.cpu(), hessian, cost_before, cost_after, len(self._steps),
                       self._watch.verdict,
                       {name: min(max(value, 0.0), 1.0) for name, value in zip(SIGNALS, signals)}, tuple(self._steps))

    def _note(self, T_map_cam: Tensor, cost: Tensor) -> None:
        self._steps.append(Step(T_map_cam.cpu(), cost[0].item(), self._watch.elapsed_ms))


def costs(residuals: Residuals, surface: Surface) -> Tensor:
    """Mean over the rays whose points are in view, [S]: 0 where all match, 1 where nothing does or nothing was rendered."""
    distance = residuals.squared.clamp_max(_UNRELATED) / _UNRELATED
    matched = (residuals.seen * surface.weights * (1 - distance)).sum(-1)
    seen = residuals.seen.sum(-1)
    return torch.where(seen >= _LEAST_SEEN * residuals.seen.shape[-1], 1 - matched / seen.clamp_min(1), 1.0)


def _residuals(grid: FeatureGrid, surface: Surface, T_map_cam: Tensor) -> Residuals:
    return grid.residuals(surface.points, F.normalize(surface.descriptors, dim=-1), T_map_cam)


def _check_channels(surface: Surface, grid: FeatureGrid) -> None:
    rendered, seen = surface.descriptors.shape[-1], grid.cells.shape[1]
    if rendered != seen:
        raise AprlocError(f'the field renders {rendered} feature channels but the query\'s map has {seen}; build the field '
                          'on these features')


def _factor(pooling: int, height: int, width: int) -> int:
    """As much pooling as leaves a map of some cells."""
    return max(1, min(pooling, min(height, width) // _SMALLEST_MAP))


def _to_map(T_cam_map: np.ndarray, surface: Surface) -> Tensor:
    return invert(torch.from_numpy(np.ascontiguousarray(T_cam_map))).to(surface.points)


def _edge_strength(features: Tensor) -> Tensor:
    """How much unit-length features [C, H, W] change from pixel to pixel, [H, W]."""
    right = F.pad((features[:, :, 1:] - features[:, :, :-1]).square().sum(0), (0, 1))
    down = F.pad((features[:, 1:] - features[:, :-1]).square().sum(0), (0, 0, 0, 1))
    return (right + down).sqrt()
