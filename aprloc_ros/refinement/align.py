"""Alignment of a rendered surface with the query's features: one rendering, then Levenberg-Marquardt, coarse to fine.

The field is rendered along chosen rays from the starts, and once more when the pose moved far; no gradient passes
through it. What each ray met is a point in the map with the descriptor it should have; the pose is the one whose
projection of the points finds these descriptors in the query's feature maps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose_errors
from aprloc_ros.refinement.feature_grid import FeatureGrid, pyramid
from aprloc_ros.refinement.levenberg import (
    LevenbergSettings,
    Residuals,
    Solution,
    is_solvable,
    minimise,
    normal_equations,
)
from aprloc_ros.refinement.refined import Budget, Query, Refined, Step, Stopwatch, kept
from aprloc_ros.refinement.surface import Surface, SurfaceSettings, border_weight, choose_pixels, render_surface
from aprloc_ros.scene import SceneNormalisation

Extract = Callable[[Tensor], Sequence[Tensor]]
SIGNALS = ('inlier_share', 'opacity', 'agreement', 'cost_drop')

_UNRELATED = 2.0    # squared distance of unit vectors that have nothing to do with each other
_SMALLEST_MAP = 12  # cells of the shorter side of a pooled map
_LEAST_POINTS = 12  # sum of the points' weights
_LEAST_SEEN = 0.25  # share of the points in view, for a cost that says something


@dataclass(frozen=True)
class AlignSettings:
    """Rays, renderings and levels of the alignment."""

    rays: int = field(default=1024, metadata={'range': (64, 65536)})      # of a rendering, shared among the starts
    renders: int = field(default=2, metadata={'range': (1, 2)})
    pooling: tuple[int, ...] = field(default=(8, 4, 2), metadata={'range': (2, 64)})   # of cells, before the map itself
    level_iterations: int = field(default=8, metadata={'range': (1, 100)})
    tolerance_cells: float = field(default=0.05, metadata={'range': (0.0, 1.0)})   # a step within it ends a level
    move_depth: float = field(default=0.05, metadata={'range': (0.0, 10.0)})   # share of the median depth
    move_deg: float = field(default=2.0, metadata={'range': (0.0, 180.0)})     # beyond either: render again
    inlier_cosine: float = field(default=0.7, metadata={'range': (-1.0, 1.0)})
    cost_rise: float = field(default=0.01, metadata={'range': (0.0, 1.0)})     # beyond it: failed
    seed: int = field(default=0, metadata={'range': (0, None)})
    surface: SurfaceSettings = field(default_factory=SurfaceSettings)
    levenberg: LevenbergSettings = field(default_factory=LevenbergSettings)


@dataclass(frozen=True, eq=False)
class Level:
    """A map to align with, and which of the rendered channels are its own."""

    grid: FeatureGrid
    channels: slice

    @property
    def components(self) -> int:
        return self.grid.cells.shape[1]

    def linearise(self, surface: Surface) -> Callable[[Tensor], Residuals]:
        descriptors = F.normalize(surface.descriptors[..., self.channels], dim=-1)
        return lambda T_map_cam: self.grid.residuals(surface.points, descriptors, T_map_cam)


class AlignRefiner:
    """Needs no more of the field than one rendering of a thousand rays, or two.

    extract: image [1, 3, h, w] in [0, 1] -> feature maps [1, C, H, W], the finest first. The field renders features in
    the space of the first, or of all of them, concatenated in that order; AprlocError where it does neither.
    """

    needs_start = True

    def __init__(self, radiance: nn.Module, scene: SceneNormalisation, extract: Extract,
                 settings: AlignSettings | None = None):
        self._radiance, self._scene, self._extract = radiance, scene, extract
        self._settings = settings or AlignSettings()

    @torch.no_grad()
    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        """starts: [S, 4, 4] float64 T_map_cam. What cannot be aligned, or ends worse than it began, is 'failed'."""
        watch = Stopwatch(budget)
        failed = kept(starts[0], dict.fromkeys(SIGNALS, 0.0))
        starts = starts[torch.isfinite(starts).flatten(1).all(1)].to(query.image.device)
        if not (watch.allows(0) and len(starts)):
            return failed
        maps = [each[0] for each in self._extract(query.image[None])]
        if not all(torch.isfinite(each).all() and min(each.shape[1:]) > 1 for each in maps):
            return failed
        return self._align(query, maps, starts, _Search(self._settings, watch)) or failed

    def _align(self, query: Query, maps: list[Tensor], starts: Tensor, search: '_Search') -> Refined | None:
        s, count = self._settings, len(starts)
        height, width = maps[0].shape[1:]
        camera = query.camera.resized(width, height)
        strength = _edge_strength(maps[0]) * border_weight(_centres(camera).to(maps[0]), camera, s.surface.border)
        pixels = choose_pixels(strength, s.rays, torch.Generator().manual_seed(s.seed))
        surface = self._render(query, camera, pixels[:max(s.rays // count, 1)], starts)
        levels = feature_levels(maps, query.camera, surface.descriptors.shape[-1], s.pooling)
        coarse, finest = levels[:-1] or levels, levels[-1]
        cost_before = costs(finest.linearise(surface[:1])(starts[:1]), surface[:1])[0].item()
        # The last stages follow the second rendering, whether or not it turns out to be needed.
        search.stages_left = len(coarse) + 2
        found = search.run(coarse, starts, surface)
        best = int(costs(found.residuals, surface).argmin())
        near = _is_near(found.T_map_cam[best], torch.stack([starts[best], *found.T_map_cam]), surface[best], s)
        agreement = near[1:].double().mean().item()
        T, surface = found.T_map_cam[best:best + 1], surface[best:best + 1]
        if s.renders > 1 and search.may_go_on and (count > 1 or not near[0]):
            surface = self._render(query, camera, pixels, T)
            found = search.run(levels[-2:], T, surface)
        else:
            found = search.run([finest], T, surface)
        return search.result(found, finest, surface, cost_before, agreement)

    def _render(self, query: Query, camera: Camera, pixels: Tensor, T_map_cam: Tensor) -> Surface:
        return render_surface(self._radiance, self._scene, camera, pixels, T_map_cam, query.histogram,
                              self._settings.surface)


class _Search:
    """Spends a budget over stages, and keeps what was seen on the way."""

    def __init__(self, settings: AlignSettings, watch: Stopwatch):
        self._settings, self._watch = settings, watch
        self._iterations, self._steps, self.stages_left = 0, [], 1

    @property
    def may_go_on(self) -> bool:
        return self._watch.allows(self._iterations)

    def run(self, levels: Sequence[Level], T_map_cam: Tensor, surface: Surface) -> Solution:
        """From level to level, all starts side by side. T_map_cam: [S, 4, 4]."""
        for level in levels:
            found = self._stage(level, T_map_cam, surface)
            T_map_cam = found.T_map_cam
        return found

    def _stage(self, level: Level, T_map_cam: Tensor, surface: Surface) -> Solution:
        left = self._watch.budget.iterations - self._iterations
        limit = min(self._settings.level_iterations, math.ceil(left / max(self.stages_left, 1)))
        self.stages_left -= 1

        def allows(done):
            return done < limit and self.may_go_on

        def observe(T, residuals):
            self._iterations += 1
            self._steps.append((T, costs(residuals, surface), self._watch.elapsed_ms))
        step_rad = self._settings.tolerance_cells / level.grid.camera.fx
        settings = replace(self._settings.levenberg, tolerance_rad=step_rad,
                           tolerance_m=step_rad * surface.median_depth_m.min().item())
        return minimise(T_map_cam, level.linearise(surface), surface.weights, level.components, settings, allows, observe)

    def result(self, found: Solution, level: Level, surface: Surface, cost_before: float,
               agreement: float) -> Refined | None:
        """The one solution as a result; None where it says nothing about the pose or is worse than the start."""
        hessian = normal_equations(found.residuals, surface.weights, found.variance, level.components,
                                   self._settings.levenberg.kernel)[0][0].cpu()
        cost_after = costs(found.residuals, surface)[0].item()
        if not (self._iterations and surface.weights.sum() >= _LEAST_POINTS and is_solvable(hessian)
                and cost_after <= cost_before + self._settings.cost_rise):
            return None
        cosine = 1 - found.residuals.squared / 2
        inliers = surface.weights * (found.residuals.seen & (cosine > self._settings.inlier_cosine))
        signals = (inliers.mean().item(), surface.opacity.mean().item(), agreement,
                   1 - cost_after / max(cost_before, 1e-12))
        return Refined(found.T_map_cam[0].cpu(), hessian, cost_before, cost_after, self._iterations,
                       'converged' if self.may_go_on else 'budget',
                       {name: min(max(value, 0.0), 1.0) for name, value in zip(SIGNALS, signals)},
                       tuple(_step(*seen) for seen in self._steps))


def feature_levels(maps: Sequence[Tensor], camera: Camera, channels: int, pooling: tuple[int, ...]) -> list[Level]:
    """The grids to align with, coarse to fine.

    maps: [C, H, W] each, the finest first; camera: of the image; channels: that are rendered; pooling: cells of a map
    that are averaged, as long as the result is coarser than a map that others gave and not too small.
    """
    sizes = [len(each) for each in maps]
    if channels not in (sizes[0], sum(sizes)):
        raise AprlocError(f'the field renders {channels} feature channels but the query\'s maps have '
                          f'{" + ".join(map(str, sizes))}; build the field on these features')
    used = len(maps) if channels == sum(sizes) else 1
    levels, coarser, end = [], 0, channels
    for features in reversed(maps[:used]):
        height, width = features.shape[1:]
        factors = [factor for factor in sorted({*pooling, 1}, reverse=True) if factor == 1 or (
            min(height, width) >= factor * _SMALLEST_MAP and (not coarser or width > factor * coarser))]
        own = slice(end - len(features), end)
        levels += [Level(grid, own) for grid in pyramid(features, camera.resized(width, height), tuple(factors))]
        coarser, end = width, own.start
    return levels


def costs(residuals: Residuals, surface: Surface) -> Tensor:
    """Mean over the rays whose points are in view, [S]: 0 where all match, 1 where nothing does or nothing was rendered."""
    distance = residuals.squared.clamp_max(_UNRELATED) / _UNRELATED
    matched = (residuals.seen * surface.weights * (1 - distance)).sum(-1)
    seen = residuals.seen.sum(-1)
    return torch.where(seen >= _LEAST_SEEN * residuals.seen.shape[-1], 1 - matched / seen.clamp_min(1), 1.0)


def _is_near(T_map_cam: Tensor, others: Tensor, surface: Surface, settings: AlignSettings) -> Tensor:
    """Whether each of the poses [K, 4, 4] is as near to one [4, 4] as its rendering serves."""
    moved_m, moved_deg = pose_errors(others, T_map_cam.expand_as(others))
    return (moved_m <= settings.move_depth * surface.median_depth_m) & (moved_deg <= settings.move_deg)


def _edge_strength(features: Tensor) -> Tensor:
    """How much unit-length features [C, H, W] change from pixel to pixel, [H, W]."""
    features = F.normalize(features.float(), dim=0)
    right = F.pad((features[:, :, 1:] - features[:, :, :-1]).square().sum(0), (0, 1))
    down = F.pad((features[:, 1:] - features[:, :-1]).square().sum(0), (0, 0, 0, 1))
    return (right + down).sqrt()


def _centres(camera: Camera) -> Tensor:
    """Of all pixels, [H, W, 2] (u, v)."""
    return torch.stack(torch.meshgrid(torch.arange(camera.width), torch.arange(camera.height), indexing='xy'), -1).float()


def _step(T_map_cam: Tensor, costs: Tensor, elapsed_ms: float) -> Step:
    best = int(costs.argmin())
    return Step(T_map_cam[best].cpu(), costs[best].item(), elapsed_ms)
