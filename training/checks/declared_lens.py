"""Whether pairs of images want another lens than the declared one, with the poses as they are."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.training.checks.evidence import Evidence
from aprloc_ros.training.checks.fit import BETTER, FITS, Suspect, fit

# Focal length: relative. Centre: share of the image's diagonal.
_FOCAL_DOUBTED, _FOCAL_REFUSED = 0.05, 0.2
_CENTRE_DOUBTED, _CENTRE_REFUSED = 0.005, 0.01   # what is trained after takes the declared centre as it is
_CENTRE_BETTER = 0.6                              # a centre that is off by a few per cent hardly shows among keypoints
_NEAR_RAD = 0.0025                                # nor do they fit anything else so well
_REACH, _COARSE, _HALVINGS = 0.6, 0.1, 6          # of the search for the centre, in focal lengths
_SIZES = np.geomspace(1 / 3, 3, 67)


@dataclass(frozen=True)
class LensFit:
    """What the matches fit instead."""

    text: str
    median_rad: float    # infinite where too few matches agree
    is_doubted: bool
    is_refused: bool
    better: float = BETTER   # its median residual must be so small relative to that of the declared lens


def lens_fits(evidence: Evidence, declared: Suspect, camera: Camera) -> Iterator[LensFit]:
    """The best of each usual mistake. camera: that of most frames, in whose pixels they are told."""
    yield _focal_length(evidence, declared)
    yield _another_size(evidence, declared, camera)
    yield _centre(evidence, declared, camera)


def _focal_length(evidence: Evidence, declared: Suspect) -> LensFit:
    def misfit_rad(factor: float) -> float:
        return _misfit_rad(evidence.through(focal_factor=factor), declared, factor)
    best = 1.0
    for reach, count in ((5.0, 65), (1.05, 41)):
        best = _least(misfit_rad, best * np.geomspace(1 / reach, reach, count))
    off = abs(math.log(best))
    return LensFit(f'they fit a focal length of {best:.2f} times the declared one', misfit_rad(best), off > _FOCAL_DOUBTED,
                   off > _FOCAL_REFUSED)


def _another_size(evidence: Evidence, declared: Suspect, camera: Camera) -> LensFit:
    """All intrinsics multiplied, as of an image that was scaled since."""
    def misfit_rad(size: float) -> float:
        shift = (1 / size - 1) * camera.cx / camera.fx, (1 / size - 1) * camera.cy / camera.fy
        return _misfit_rad(evidence.through(1 / size, shift), declared, 1 / size)
    best = _least(misfit_rad, _SIZES)
    return LensFit(f'they fit the intrinsics of an image that is {best:.2f} times as large as these', misfit_rad(best), True, True)


def _centre(evidence: Evidence, declared: Suspect, camera: Camera) -> LensFit:
    def misfit_rad(shift: tuple[float, float]) -> float:
        return _misfit_rad(evidence.through(shift=shift), declared)
    steps = np.arange(-_REACH, _REACH + _COARSE / 2, _COARSE)
    best, step = _least(misfit_rad, [(x, y) for x in steps for y in steps]), _COARSE
    for _ in range(_HALVINGS):
        step /= 2
        around = (0.0, -step, step)
        best = _least(misfit_rad, [(best[0] + x, best[1] + y) for x in around for y in around])
    dx, dy = best[0] * camera.fx, best[1] * camera.fy
    off = math.hypot(dx, dy) / math.hypot(camera.width, camera.height)
    is_inside = 0 <= camera.cx + dx < camera.width and 0 <= camera.cy + dy < camera.height
    found_rad = misfit_rad(best) if is_inside else np.inf
    return LensFit(f'they fit a principal point at {camera.cx + dx:.0f}, {camera.cy + dy:.0f} instead of {camera.cx:.0f}, '
                   f'{camera.cy:.0f}', found_rad, off > _CENTRE_DOUBTED, off > _CENTRE_REFUSED,
                   _CENTRE_BETTER if found_rad < _NEAR_RAD else BETTER)


def _misfit_rad(evidence: Evidence, declared: Suspect, factor: float = 1.0) -> float:
    """By the declared lens; infinite where too few matches agree."""
    found = fit(evidence, declared)
    return found.median_rad * factor if found.share >= FITS else np.inf


def _least(misfit_rad: Callable, tried: Iterable):
    return min((misfit_rad(value), index, value) for index, value in enumerate(tried))[2]
