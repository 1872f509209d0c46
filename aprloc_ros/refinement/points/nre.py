"""The neural reprojection error's pose estimator: from no pose at all to the final one, coarse to fine (NRE section 5)."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.networks.extractor import COARSE_STRIDE, FINE_STRIDE, SIZE_MULTIPLE, Features
from aprloc_ros.networks.fusion import fused
from aprloc_ros.points import MapPoints
from aprloc_ros.refinement.feature_metric import Aligned, feature_metric
from aprloc_ros.refinement.gnc import Pinhole, minimise
from aprloc_ros.refinement.lens_matches import LensGuess, guess_lens
from aprloc_ros.refinement.loss_maps import (
    LossMaps,
    dense_maps,
    local_maps,
    log_coarse_within,
    sparse_maps,
)
from aprloc_ros.refinement.patches.patch_metric import patch_metric
from aprloc_ros.refinement.points.minimal import msac
from aprloc_ros.refinement.points.nre_settings import NreSettings
from aprloc_ros.refinement.points.nre_trace import FEWEST, NreTrace
from aprloc_ros.refinement.points.retrieval import ViewIndex, retrieve_points, retrieve_views, rows_of_views
from aprloc_ros.refinement.refined import CONVERGED, Budget, Query, Refined, Stopwatch, kept

_AGREES_CELLS = 1.0       # coarse cells
_SHARP_CELLS = 0.5        # of coarse cells, whose likeliest one is known by fine descriptors
_NEARBY = 4               # fine cells on either side of its middle, among which they look


class NreRefiner:
    """Estimates a pose from the map's points; starts are hypotheses among others."""

    def __init__(self, extractor: nn.Module, points: MapPoints, settings: NreSettings | None = None):
        self._extractor, self._points = fused(extractor), points
        self.settings = settings or NreSettings()
        device = next(extractor.parameters()).device
        self._coarse, self._fine = points.coarse.to(device), points.fine.to(device)
        self._index = ViewIndex(points, device)

    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        """See refinement.refined. An iteration is a step of any level of graduated non-convexity, or of the
        feature metric at the end."""
        starts = starts[torch.isfinite(starts).flatten(1).all(1)].cpu()
        start = [*starts[:1], *self._points.view_poses[:1], torch.eye(4, dtype=torch.float64)][0]
        watch = Stopwatch(budget)
        trace = self.trace(query, starts, watch)
        if trace is None or trace.final is None or not torch.isfinite(trace.final.T_map_cam).all():
            return kept(start, {'inlier_share': 0.0}, watch)
        return trace.result(start, self.settings, watch)

    @torch.inference_mode()
    def trace(self, query: Query, starts: Tensor, watch: Stopwatch) -> NreTrace | None:
        """All stages of an estimation, as far as they got; None where there is nothing to go by."""
        if not watch.allows(0):
            return None
        query = look(query, self._extractor, self.settings.scale)
        if not watch.in_time():
            return None
        features = query.features[0]
        if not torch.isfinite(features.coarse).all() or not torch.isfinite(features.fine).all():
            return None
        views = retrieve_views(self._points, self._index.likeness(features.coarse), starts, self.settings.views,
                               self.settings.views_near_starts)
        chosen = retrieve_points(self._points, views, self.settings.points)
        index = chosen.to(self._fine.device)
        fine = self._fine[index]
        groups = [rows.numpy() for rows in rows_of_views(self._points, views, chosen)]
        trace = NreTrace(chosen, self._points.xyz[chosen].numpy(), groups,
                         dense_maps(self._coarse[index], features.coarse, features.coarse_scale),
                         _cells_of(query, COARSE_STRIDE), _cells_of(query, FINE_STRIDE))
        self._from_coarse_maps(trace, fine, features, invert(starts).numpy(), watch)
        if trace.coarse is not None and watch.verdict == CONVERGED:
            self._from_fine_maps(trace, fine, features, watch)
        if trace.fine is not None and watch.verdict == CONVERGED:
            self._from_features(trace, fine, features.fine, query, watch)
        if trace.final is not None and watch.verdict == CONVERGED:
            self._from_patches(trace, query, watch)
        return trace

    def _from_coarse_maps(self, trace: NreTrace, fine: Tensor, features: Features, starts: np.ndarray, watch: Stopwatch) -> None:
        settings, camera = self.settings, trace.coarse_camera
        if not len(trace.xyz):
            return
        maps = _sharper(sparse_maps(trace.log_coarse, camera.width, settings.coarse_cells), fine, features)
        found = msac(maps, trace.xyz, camera, trace.groups, starts, settings.triples, np.random.default_rng(0),
                     watch.in_time, _SHARP_CELLS)
        if found is None or found.score <= 0:
            return
        trace.hypothesis, trace.first = found, found.T_cam_map
        trace.note(_to_map(found.T_cam_map), -found.score, watch)
        trace.coarse = _descend(trace, maps, trace.xyz, camera, trace.first, settings.coarse_sigmas, watch)
        cells, _, trace.in_view = camera.project(trace.xyz, trace.coarse)
        trace.agrees = trace.in_view & (np.hypot(*(maps.best - cells).T) < _AGREES_CELLS)

    def _from_fine_maps(self, trace: NreTrace, fine: Tensor, features: Features, watch: Stopwatch) -> None:
        settings = self.settings
        rows, centres = trace.whole_windows(trace.coarse, settings.radius)
        rows, centres = rows[:settings.fine_points], centres[:settings.fine_points]
        if len(rows) < FEWEST:
            return
        index, windows = torch.from_numpy(rows).to(fine.device), torch.from_numpy(centres).to(fine)
        log_within = log_coarse_within(trace.log_coarse[index], trace.coarse_camera.width, trace.fine_camera.width, windows,
                                       settings.radius)
        trace.rows = rows
        trace.fine_maps = local_maps(fine[index], features.fine, features.fine_scale, windows, settings.radius,
                                     settings.fine_cells, log_within)
        trace.fine = _descend(trace, trace.fine_maps, trace.xyz[rows], trace.fine_camera, trace.coarse,
                              settings.fine_sigmas, watch)

    def _from_features(self, trace: NreTrace, fine: Tensor, feature_map: Tensor, query: Query, watch: Stopwatch) -> None:
        """A map of losses knows places to a cell; the slope of the features themselves knows them better."""
        rows, _ = trace.whole_windows(trace.fine, self.settings.radius)
        if len(rows) < FEWEST:
            return
        start, index = _to_map(trace.fine), torch.from_numpy(rows)
        before, most = trace.iterations, self.settings.metric_iterations
        trace.final = feature_metric(start.to(fine.device), torch.from_numpy(trace.xyz[rows]).to(fine.device),
                                     fine[index.to(fine.device)], feature_map, query.camera,
                                     allows=lambda done: done < most and watch.allows(before + done),
                                     guess=partial(_guess_by_matches, trace), usual_doubt=query.usual_doubt)
        trace.iterations += trace.final.iterations
        trace.note(trace.final.T_map_cam, None, watch)

    def _from_patches(self, trace: NreTrace, query: Query, watch: Stopwatch) -> None:
        """Where the map has patches and the image is like them, it knows the pose as well as the camera can."""
        patches, most = self._points.patches, self.settings.patch_iterations
        if patches is None or query.native is None or not self.settings.patches:
            return
        rows, before = np.isin(patches.point.numpy(), trace.chosen.numpy()).nonzero()[0], trace.iterations
        trace.sharp = patch_metric(trace.final.T_map_cam, patches, rows, query.native, self.settings.patches,
                                   allows=lambda done: done < most and watch.allows(before + done),
                                   guess=lambda: _guess_by_features(trace.final), usual_doubt=query.usual_doubt)
        if trace.sharp is not None:
            trace.iterations += trace.sharp.iterations
            trace.note(trace.sharp.T_map_cam, None, watch)


def _sharper(maps: LossMaps, fine: Tensor, features: Features) -> LossMaps:
    """Coarse maps whose likeliest cells lie where the points' fine descriptors [N, C] are likeliest nearby.

    Half a coarse cell is a degree: three points that far off give a pose from which most of what is near looks like an outlier.
    """
    ratio = COARSE_STRIDE / FINE_STRIDE
    middles = torch.from_numpy((maps.best + 0.5) * ratio - 0.5).to(fine)
    near = local_maps(fine, features.fine, features.fine_scale, middles, _NEARBY, 1, torch.zeros(len(maps)).to(fine))
    return maps.with_best((near.cells[:, 0] + 0.5) / ratio - 0.5)


def _guess_by_matches(trace: NreTrace) -> LensGuess | None:
    told = trace.fine_maps.gains.max(1) > 0
    return guess_lens(trace.fine_maps.best[told], trace.xyz[trace.rows[told]], trace.fine_camera, trace.fine)


def _guess_by_features(final: Aligned) -> LensGuess | None:
    """What the features say of the camera, and the pose that goes with it."""
    lens = final.lens
    if not (lens.has_shift and lens.is_usable):
        return None
    return LensGuess(lens.offsets, final.T_map_cam @ se3_exp(lens.shift @ lens.offsets))


def _descend(trace: NreTrace, maps: LossMaps, xyz: np.ndarray, camera: Pinhole, pose: np.ndarray,
             sigmas: tuple[float, ...], watch: Stopwatch) -> np.ndarray:
    for sigma in sigmas:
        if not watch.allows(trace.iterations):
            break
        level = minimise(maps, xyz, camera, pose, sigma, watch.budget.iterations - trace.iterations)
        trace.iterations += level.iterations
        trace.note(_to_map(level.T_cam_map), level.cost, watch)
        pose = level.T_cam_map
    return pose


def _to_map(T_cam_map: np.ndarray) -> Tensor:
    return invert(torch.from_numpy(np.ascontiguousarray(T_cam_map)))


@torch.inference_mode()
def look(query: Query, extractor: nn.Module, scale: float) -> Query:
    """The query with its features, its sides that share of what they were, in whole cells of both maps.

    One that has features already stays as it is.
    """
    if query.features is not None:
        return query
    if scale != 1:
        height, width = (max(1, round(scale * side / SIZE_MULTIPLE)) * SIZE_MULTIPLE for side in query.image.shape[1:])
        image = F.interpolate(query.image[None], (height, width), mode='bilinear', align_corners=False, antialias=True)[0]
        query = replace(query, image=image, camera=query.camera.resized(width, height))
    return replace(query, features=extractor(query.image[None].contiguous(memory_format=torch.channels_last)))


def _cells_of(query: Query, stride: int) -> Pinhole:
    return Pinhole.of(query.camera.resized(query.camera.width // stride, query.camera.height // stride))
