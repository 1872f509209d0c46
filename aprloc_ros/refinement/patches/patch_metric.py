"""The pose at which the map's patches look most like the image under their projections: the last, sharpest step of `nre`.

Each patch is one residual vector, the image over it less the patch, after gain and bias; all of them move with the pose
alone. The slopes are those of the patches, which do not change (inverse compositional: Baker and Matthews, IJCV 2004).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.patches import SIDE, Patches
from aprloc_ros.refinement import levenberg
from aprloc_ros.refinement.lens_evidence import SUSPICIOUS, LensEvidence, first_step, lens_evidence, offset_camera
from aprloc_ros.refinement.lens_matches import LensGuess
from aprloc_ros.refinement.luminance import Luminance
from aprloc_ros.refinement.patches.patch_views import PatchView, Templates
from aprloc_ros.refinement.warp import Warp, warp_of_residuals

_SETTINGS = levenberg.LevenbergSettings(kernel=levenberg.Kernel(shape=-4.0, width=0.7), stretch=1.0, longest_stretch=1.0)
_UNIT = Camera(1, 1, 1.0, 1.0, 0.0, 0.0)
_SCALES = 0.6, 1.7       # pixels of the image to a patch's, within which both are about as sharp
_ALIKE = 0.8             # likeness of a patch that is where it should be
_FEWEST, _FEWEST_SHARE = 20, 0.3   # of patches that are alike
# Variance of a residual where an image is as sharp as the patches. What is left over where it is not (blur, noise, another
# light) moves all patches alike and no number of them averages it out: the pose's variance then grows with its square.
_USUAL_VARIANCE = 5e-4
_NEAR = 1e-4             # a step of a lens's offsets within it is the last
_FARTHEST_PX = 8.0       # that the patches move: beyond, it is another valley


@dataclass(frozen=True, eq=False)
class Matched:
    """Where a search on patches ended; on the CPU."""

    T_map_cam: Tensor   # [4, 4] float64
    hessian: Tensor     # [6, 6] float64, of half the robust sum of squared whitened residuals, in xi of T @ exp(xi); less
    # where image and patches differ by more than usual
    iterations: int
    lens: LensEvidence
    warp: Warp | None


@dataclass(frozen=True, eq=False)
class _Alignment:
    """N patches before an image."""

    centres: np.ndarray    # [N, 3]
    steps: np.ndarray      # [N, 2, 3]
    templates: Templates
    metric: np.ndarray     # [N, 2, 2] of the slopes, in units of each patch's contrast
    image: Luminance
    camera: Camera = _UNIT   # but for what the image's camera is off by, in focal lengths
    channels = SIDE ** 2

    @classmethod
    def of(cls, patches: Patches, rows: np.ndarray, image: Luminance) -> '_Alignment':
        templates = Templates(patches.luminance.numpy()[rows])
        metric = templates.slopes @ templates.slopes.transpose(0, 2, 1) / templates.squared[:, None, None]
        return cls(patches.centre.numpy()[rows], patches.steps.numpy()[rows].astype(np.float64), templates, metric, image)

    def pixels(self, T_map_cam: Tensor) -> np.ndarray:
        """Of the centres, from a pose [4, 4]: [N, 2]."""
        T = T_map_cam.numpy()
        return self.image.camera.pixels_of((self.centres - T[:3, 3]) @ T[:3, :3])

    def residuals(self, T_map_cam: Tensor) -> levenberg.Residuals:
        """At poses [1, 4, 4], in units of each patch's contrast; they move with the pixels of `camera`."""
        offsets = torch.tensor([self.camera.fx - 1, self.camera.cx, self.camera.cy])
        view = PatchView.of(self.centres, self.steps, T_map_cam[0].numpy(), offset_camera(self.image.camera, offsets))
        fit = self.templates.fit(self.image.sample(self.templates.where(view)))
        seen = view.inside & fit.usable
        to_patch = np.linalg.inv(self.camera.fx * view.flat)
        slope = (self.templates.slopes @ fit.left[..., None])[..., 0] * (seen / self.templates.squared)[:, None]
        parts = (fit.squared, (slope[:, None] @ to_patch)[:, 0],
                 to_patch.transpose(0, 2, 1) @ self.metric @ to_patch * seen[:, None, None], self.camera.fx * view.motion)
        return levenberg.Residuals(*(torch.from_numpy(part.astype(np.float64))[None] for part in parts),
                                   torch.from_numpy(seen)[None])


def patch_metric(T_map_cam: Tensor, patches: Patches, rows: np.ndarray, image: Luminance, most: int,
                 allows: Callable[[int], bool], guess: Callable[[], LensGuess | None] = lambda: None,
                 usual_doubt: float = 0.0) -> Matched | None:
    """The search from one pose [4, 4]; None where too little of the image is like the patches, or only far away.

    rows: of the patches that may be in view, neighbours side by side; most: how many of them are looked at; allows: whether
    another iteration may follow that many; guess: of what the camera is off by, asked for where the patches
    themselves speak against it, by more than usual_doubt.
    """
    start = T_map_cam.double().cpu()
    if len(rows) < _FEWEST:
        return None
    rows, image = _in_focus(patches, rows, start.numpy(), image)
    rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]
    if len(rows) < _FEWEST:
        return None
    alignment, weights = _Alignment.of(patches, rows, image), torch.ones(1, len(rows), dtype=torch.float64)
    settings = replace(_SETTINGS, tolerance_m=levenberg.nearness_m(patches.centre[rows], start))
    found = levenberg.minimise(start[None], alignment.residuals, weights, SIDE ** 2, settings, allows)
    T, residuals = found.T_map_cam[0], found.residuals
    alike = (residuals.seen & (1 / torch.sqrt(1 + residuals.squared) > _ALIKE))[0].numpy()
    moved_px = np.hypot(*(alignment.pixels(T) - alignment.pixels(start))[alike].T)
    if alike.sum() < max(_FEWEST, _FEWEST_SHARE * len(rows)) or np.median(moved_px) > _FARTHEST_PX:
        return None
    trust = _USUAL_VARIANCE / found.variance.item()
    first = first_step(residuals, alignment, weights, found.variance, _SETTINGS.kernel, trust)
    lens = lens_evidence(first, lambda seen, T: seen.residuals(T[None]), alignment, T, weights, found.variance, _SETTINGS.kernel,
                         max(SUSPICIOUS, usual_doubt), guess, stretch=1.0, near=_NEAR, trust=trust)
    return Matched(T, first.hessian, found.iterations, lens,
                   warp_of_residuals(residuals, alignment, weights, found.variance, _SETTINGS.kernel, trust))


def _in_focus(patches: Patches, rows: np.ndarray, T_map_cam: np.ndarray, image: Luminance) -> tuple[np.ndarray, Luminance]:
    """Those of the patches that are seen whole in about their own pixels, and the image, halved until most of them are."""
    view = PatchView.of(patches.centre.numpy()[rows], patches.steps.numpy()[rows].astype(np.float64), T_map_cam, image.camera)
    if not view.inside.any():
        return rows[:0], image
    times = max(0, round(np.log2(np.median(view.scale[view.inside]))))
    scale = view.scale / 2 ** times
    return rows[view.inside & (scale > _SCALES[0]) & (scale < _SCALES[1])], image.halved(times)
