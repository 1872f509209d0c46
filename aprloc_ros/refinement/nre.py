"""The neural reprojection error's pose estimator: from no pose at all to the final one, coarse to fine (NRE section 5)."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from aprloc_ros.geometry import invert
from aprloc_ros.networks.extractor import COARSE_STRIDE, FINE_STRIDE, Features
from aprloc_ros.points import MapPoints
from aprloc_ros.refinement.gnc import Level, Pinhole, minimise, normal_equations, pull
from aprloc_ros.refinement.loss_maps import LossMaps, dense_maps, interpolated, local_maps, sparse_maps
from aprloc_ros.refinement.minimal import Hypothesis, msac
from aprloc_ros.refinement.refined import Budget, Query, Refined, Step, Stopwatch, kept
from aprloc_ros.refinement.retrieval import retrieve_points, retrieve_views, rows_of_views

_INLIER_CELLS = 1.5       # fine cells
_AGREES_CELLS = 1.0       # coarse cells
_LEAST_SCALE_CELLS = 0.1  # a robust scale below this is luck
_FEWEST = 4
_PARTS = 4                # the image is divided in as many parts each way to see how far the inliers spread


@dataclass(frozen=True)
class NreSettings:
    """How a pose is estimated. Sigmas are in cells; each row of windows is a round of fine maps around the last pose."""

    views: int = field(default=12, metadata={'range': (1, 1000)})           # retrieved by similarity
    views_near_starts: int = field(default=2, metadata={'range': (0, 1000)})
    points: int = field(default=1000, metadata={'range': (4, 100_000)})
    fine_points: int = field(default=600, metadata={'range': (4, 100_000)})
    triples: int = field(default=960, metadata={'range': (1, 100_000)})     # of MSAC, at most
    coarse_cells: int = field(default=12, metadata={'range': (1, 10_000)})  # kept per loss map
    fine_cells: int = field(default=12, metadata={'range': (1, 10_000)})
    coarse_sigmas: tuple[float, ...] = field(default=(2.0, 1.0), metadata={'range': (0.1, 100.0)})
    first_sigmas: tuple[float, ...] = field(default=(2.0,), metadata={'range': (0.1, 100.0)})
    last_sigmas: tuple[float, ...] = field(default=(0.7,), metadata={'range': (0.1, 100.0)})
    first_radius: int = field(default=7, metadata={'range': (1, 64)})       # of the windows, in fine cells
    last_radius: int = field(default=4, metadata={'range': (1, 64)})


@dataclass(eq=False)
class NreTrace:
    """A query's way from retrieval to the final pose; poses are T_cam_map [4, 4]."""

    chosen: Tensor                        # [N] indices of the retrieved points
    xyz: np.ndarray                       # [N, 3]
    groups: list[np.ndarray]              # rows of the points that one retrieved view saw
    log_coarse: Tensor                    # [N, h * w] ln C of the coarse maps
    coarse_camera: Pinhole
    fine_camera: Pinhole
    hypothesis: Hypothesis | None = None
    first: np.ndarray | None = None       # after MSAC
    coarse: np.ndarray | None = None      # after the coarse maps
    final: np.ndarray | None = None       # after the fine ones
    in_view: np.ndarray | None = None     # [N] bool
    agrees: np.ndarray | None = None      # [N] bool: the likeliest coarse cell is where the pose says
    fine_maps: LossMaps | None = None     # of the last round
    rows: np.ndarray | None = None        # which points they are of
    iterations: int = 0
    steps: list[Step] = field(default_factory=list)


class NreRefiner:
    """Estimates a pose from the map's points; starts are hypotheses among others."""

    needs_start = False

    def __init__(self, extractor: nn.Module, points: MapPoints, settings: NreSettings | None = None):
        self._extractor, self._points = extractor.eval(), points
        self.settings = settings or NreSettings()
        device = next(extractor.parameters()).device
        self._coarse, self._fine = points.coarse.to(device), points.fine.to(device)

    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        """See refinement.refined. An iteration is a step of any level of graduated non-convexity."""
        starts = starts[torch.isfinite(starts).flatten(1).all(1)].cpu()
        start = [*starts[:1], *self._points.view_poses[:1], torch.eye(4, dtype=torch.float64)][0]
        trace = self.trace(query, starts, budget)
        if trace is None or trace.final is None or not np.isfinite(trace.final).all():
            return kept(start, {'inlier_share': 0.0})
        return _result(start, trace, self.settings, budget)

    @torch.inference_mode()
    def trace(self, query: Query, starts: Tensor, budget: Budget) -> NreTrace | None:
        """All stages of an estimation, as far as they got; None where there is nothing to go by."""
        watch = Stopwatch(budget)
        if not budget.iterations or not budget.milliseconds:
            return None
        features = self._extractor(query.image[None].contiguous(memory_format=torch.channels_last))
        if not torch.isfinite(features.coarse).all() or not torch.isfinite(features.fine).all():
            return None
        views = retrieve_views(self._points, features.pooled[0].cpu(), starts, self.settings.views,
                               self.settings.views_near_starts)
        chosen = retrieve_points(self._points, views, self.settings.points)
        index = chosen.to(self._fine.device)
        features = features[0]
        groups = [rows.numpy() for rows in rows_of_views(self._points, views, chosen)]
        trace = NreTrace(chosen, self._points.xyz[chosen].numpy(), groups,
                         dense_maps(self._coarse[index], features.coarse, features.coarse_scale),
                         _cells_of(query, COARSE_STRIDE), _cells_of(query, FINE_STRIDE))
        self._from_coarse_maps(trace, invert(starts).numpy(), watch)
        if trace.coarse is not None:
            self._from_fine_maps(trace, self._fine[index], features, watch)
        return trace

    def _from_coarse_maps(self, trace: NreTrace, starts: np.ndarray, watch: Stopwatch) -> None:
        settings, camera = self.settings, trace.coarse_camera
        if not len(trace.xyz):
            return
        maps = sparse_maps(trace.log_coarse, camera.width, settings.coarse_cells)
        found = msac(maps, trace.xyz, camera, trace.groups, starts, settings.triples, np.random.default_rng(0))
        if found is None or found.score <= 0:
            return
        trace.hypothesis, trace.first = found, found.T_cam_map
        _note(trace, Level(found.T_cam_map, -found.score, 0), watch)
        trace.coarse = _descend(trace, maps, trace.xyz, camera, trace.first, settings.coarse_sigmas, watch)
        cells, _, trace.in_view = camera.project(trace.xyz, trace.coarse)
        trace.agrees = trace.in_view & (np.hypot(*(maps.best - cells).T) < _AGREES_CELLS)

    def _from_fine_maps(self, trace: NreTrace, fine: Tensor, features: Features, watch: Stopwatch) -> None:
        settings, camera, pose = self.settings, trace.fine_camera, trace.coarse
        rounds = (settings.first_radius, settings.first_sigmas), (settings.last_radius, settings.last_sigmas)
        for radius, sigmas in rounds:
            if trace.fine_maps is not None and not watch.allows(trace.iterations):
                break
            rows, centres = _whole_windows(trace, pose, radius, settings.fine_points)
            if len(rows) < _FEWEST:
                return
            index = torch.from_numpy(rows).to(fine.device)
            trace.rows = rows
            trace.fine_maps = local_maps(fine[index], features.fine, features.fine_scale, torch.from_numpy(centres).to(fine),
                                         radius, settings.fine_cells, trace.log_coarse[index], trace.coarse_camera.width)
            pose = _descend(trace, trace.fine_maps, trace.xyz[rows], camera, pose, sigmas, watch)
        trace.final = pose


def _whole_windows(trace: NreTrace, pose: np.ndarray, radius: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points whose windows of fine cells lie in the image, and these windows' centres.

    A window that is cut by the image's border pulls its point inwards: the whole pose would seem too far away.
    """
    camera = trace.fine_camera
    cells, _, inside = camera.project(trace.xyz, pose)
    whole = ((cells >= radius) & (cells <= [camera.width - 1 - radius, camera.height - 1 - radius])).all(1)
    rows = (inside & whole).nonzero()[0]
    # Points whose coarse maps agree come first; among equals the order of the map spreads them.
    rows = rows[np.argsort(~trace.agrees[rows], kind='stable')][:most]
    return rows, cells[rows]


def _descend(trace: NreTrace, maps: LossMaps, xyz: np.ndarray, camera: Pinhole, pose: np.ndarray,
             sigmas: tuple[float, ...], watch: Stopwatch) -> np.ndarray:
    for sigma in sigmas:
        if not watch.allows(trace.iterations):
            break
        level = minimise(maps, xyz, camera, pose, sigma, watch.budget.iterations - trace.iterations)
        trace.iterations += level.iterations
        _note(trace, level, watch)
        pose = level.T_cam_map
    return pose


def _note(trace: NreTrace, level: Level, watch: Stopwatch) -> None:
    T = invert(torch.from_numpy(np.ascontiguousarray(level.T_cam_map)))
    trace.steps.append(Step(T, level.cost, watch.elapsed_ms))


def _result(start: Tensor, trace: NreTrace, settings: NreSettings, budget: Budget) -> Refined:
    """The final pose with its Hessian, in fine cells over their robust scale, and its signals."""
    camera, maps, xyz = trace.fine_camera, trace.fine_maps, trace.xyz[trace.rows]
    cells, cam, inside = camera.project(xyz, trace.final)
    drawn = pull(maps, cells, inside, settings.last_sigmas[-1]).offset
    agrees = inside & (np.hypot(*(maps.best - cells).T) < _INLIER_CELLS) & (maps.gains.max(1) > 0)
    if agrees.sum() < _FEWEST:
        return kept(start, {'inlier_share': 0.0})
    scale = max(1.2 * float(np.median(np.hypot(*drawn[agrees].T))), _LEAST_SCALE_CELLS)
    H, _ = normal_equations(camera.jacobian(cam)[agrees], drawn[agrees], np.full(int(agrees.sum()), scale ** -2))
    first = trace.hypothesis
    signals = {
        'inlier_share': float(agrees.sum() / max(1, inside.sum())),
        'coarse_share': float(trace.agrees.sum() / max(1, trace.in_view.sum())),
        'inliers': float(min(1.0, np.log1p(agrees.sum()) / np.log1p(settings.points))),
        'in_view': float(inside.sum() / len(trace.xyz)),
        'agreement': float(np.clip(1 - first.runner_up / max(first.score, 1e-9), 0, 1)),
        'sharpness': float(1 / (1 + scale)),
        'spread': _spread(cells[agrees], camera)}
    spent = trace.iterations >= budget.iterations or trace.steps[-1].elapsed_ms >= budget.milliseconds
    return Refined(invert(torch.from_numpy(np.ascontiguousarray(trace.final))), torch.from_numpy(H),
                   _mean_loss(trace, invert(start).numpy()), _mean_loss(trace, trace.final), trace.iterations,
                   'budget' if spent else 'converged', signals, tuple(trace.steps))


def _mean_loss(trace: NreTrace, T_cam_map: np.ndarray) -> float:
    """Eq. 6 per point on the coarse maps."""
    camera = trace.coarse_camera
    cells, _, inside = camera.project(trace.xyz, T_cam_map)
    return float(interpolated(trace.log_coarse, camera.width, cells, inside).mean())


def _cells_of(query: Query, stride: int) -> Pinhole:
    camera = query.camera.resized(query.camera.width // stride, query.camera.height // stride)
    return Pinhole(camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)


def _spread(cells: np.ndarray, camera: Pinhole) -> float:
    """Share of the image's parts that hold one of the cells [N, 2] at least."""
    parts = np.floor(_PARTS * (cells + 0.5) / [camera.width, camera.height]).clip(0, _PARTS - 1)
    return len(np.unique(parts, axis=0)) / _PARTS ** 2
