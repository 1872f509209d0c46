"""A query's way through the stages of `nre`, and what its end is worth."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from aprloc_ros.geometry import invert
from aprloc_ros.refinement.feature_metric import Aligned
from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.loss_maps import LossMaps, interpolated
from aprloc_ros.refinement.patches.patch_metric import Matched
from aprloc_ros.refinement.points.minimal import Hypothesis
from aprloc_ros.refinement.points.nre_settings import NreSettings
from aprloc_ros.refinement.points.torn import is_torn
from aprloc_ros.refinement.refined import Refined, Step, Stopwatch, kept
from aprloc_ros.refinement.warp import warp_of_matches

FEWEST = 4                # points that a pose needs
_INLIER_CELLS = 1.5       # fine cells
_PARTS = 4                # the image is divided in as many parts each way to see how far the inliers spread


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
    fine: np.ndarray | None = None        # after the fine ones
    final: Aligned | None = None   # of the feature metric
    sharp: Matched | None = None   # of the patches
    in_view: np.ndarray | None = None     # [N] bool
    agrees: np.ndarray | None = None      # [N] bool: the likeliest coarse cell is where the pose says
    fine_maps: LossMaps | None = None
    rows: np.ndarray | None = None        # which points they are of
    iterations: int = 0
    steps: list[Step] = field(default_factory=list)

    def whole_windows(self, pose: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
        """The points whose windows of fine cells lie in the image, and these windows' centres.

        A window that is cut by the image's border pulls its point inwards: the whole pose would seem too far away.
        """
        camera = self.fine_camera
        cells, _, inside = camera.project(self.xyz, pose)
        whole = ((cells >= radius) & (cells <= [camera.width - 1 - radius, camera.height - 1 - radius])).all(1)
        rows = (inside & whole).nonzero()[0]
        # Points whose coarse maps agree come first; among equals the order of the map spreads them.
        rows = rows[np.argsort(~self.agrees[rows], kind='stable')]
        return rows, cells[rows]

    def note(self, T_map_cam: Tensor, cost: float | None, watch: Stopwatch) -> None:
        """Another step [4, 4]; cost: None where it does not compare with those before."""
        self.steps.append(Step(T_map_cam, self.steps[-1].cost if cost is None else cost, watch.elapsed_ms))

    def result(self, start: Tensor, settings: NreSettings, watch: Stopwatch) -> Refined:
        """The final pose with the Hessian of the step it is from, and its signals; start [4, 4] T_map_cam."""
        camera, maps, final = self.fine_camera, self.fine_maps, self.sharp or self.final
        T_cam_map = invert(final.T_map_cam).numpy()
        cells, _, inside = camera.project(self.xyz[self.rows], T_cam_map)
        told = maps.gains.max(1) > 0
        agrees = inside & (np.hypot(*(maps.best - cells).T) < _INLIER_CELLS) & told
        if agrees.sum() < FEWEST:
            return kept(start, {'inlier_share': 0.0}, watch)
        first = self.hypothesis
        signals = {
            'inlier_share': float(agrees.sum() / max(1, inside.sum())),
            'coarse_share': float(self.agrees.sum() / max(1, self.in_view.sum())),
            'inliers': float(min(1.0, np.log1p(agrees.sum()) / np.log1p(settings.points))),
            'in_view': float(inside.sum() / len(self.xyz)),
            'agreement': float(np.clip(1 - first.runner_up / max(first.score, 1e-9), 0, 1)),
            'likeness': float(self.final.likeness.median().clamp(0, 1)),
            'spread': _spread(cells[agrees], camera)}
        matches = maps.best[told], self.xyz[self.rows[told]], camera, T_cam_map
        return Refined(final.T_map_cam, final.hessian, self._mean_loss(invert(start).numpy()), self._mean_loss(T_cam_map),
                       self.iterations, watch.verdict, signals, tuple(self.steps), final.lens,
                       warp_of_matches(*matches), self.sharp and self.sharp.warp, is_torn(*matches))

    def _mean_loss(self, T_cam_map: np.ndarray) -> float:
        """Eq. 6 per point on the coarse maps."""
        camera = self.coarse_camera
        cells, _, inside = camera.project(self.xyz, T_cam_map)
        return float(interpolated(self.log_coarse, camera.width, cells, inside).mean())


def _spread(cells: np.ndarray, camera: Pinhole) -> float:
    """Share of the image's parts that hold one of the cells [N, 2] at least."""
    parts = np.floor(_PARTS * (cells + 0.5) / [camera.width, camera.height]).clip(0, _PARTS - 1)
    return len(np.unique(parts, axis=0)) / _PARTS ** 2
