"""Do the poses of a capture agree with its images? Found out in seconds, before anything is built on them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.checks.evidence import Evidence, gather, gather_across
from aprloc_ros.training.checks.suspects import Suspect, usual_suspects
from aprloc_ros.training.datasets.capture import Frame

_REFUSED_BELOW = 0.7      # share of matches
_DOUBTED_BELOW = 0.85
_EXACT_RAD = 0.002        # poses that are this good in the median need no suspects: keypoints are hardly better
_NOISY_RAD = 0.007
_STILL_RAD = 0.015
_FITS = 0.8               # share of matches that agree with what the poses were meant to be
_BETTER = 0.4             # its median residual relative to that of the declared poses
_SAME = 0.8               # what is less simple must fit so much better
_FOCAL_DOUBTED, _FOCAL_REFUSED = 0.05, 0.2   # relative
_LOCAL = 0.9              # share of the pairs that a stretch of wrong frames explains
_FEWEST_PAIRS = 8
_SUSPECTS = 'world-to-camera, axes, handedness, quaternion order, shifted frames, another body, units, focal length'


@dataclass(frozen=True)
class Agreement:
    """What the images say of the poses."""

    text: str
    verified: bool    # False: it could not be checked, or there are doubts
    compared: bool = True   # False: too few images match one another


@dataclass(frozen=True, eq=False)
class _Fit:
    """How well poses fit the evidence."""

    suspect: Suspect
    share: float        # of the matches that agree
    median_rad: float


def check_poses(frames: tuple[Frame, ...], taken: tuple[Frame, ...], mounts: Mapping[str, Tensor]) -> Agreement:
    """frames: whose images are compared; taken: all in the order in which they were, frames among them; mounts: see Capture.

    Raises AprlocError where the poses contradict the images; it says what was measured and which suspect fits.
    """
    found = gather(frames)
    if found is None:
        return Agreement('poses: not checked, too few images match one another', False, False)
    evidence, used = found.of_few()
    matched = tuple(frames[index] for index in used)
    agreement = _judged(evidence, matched, taken, mounts)
    across = gather_across(frames) if agreement.verified else None
    if across is None:
        return agreement
    fit = _fit(across, _declared(frames))
    if fit.share >= _REFUSED_BELOW:
        return agreement
    return Agreement(f'WARNING: {agreement.text}; but only {fit.share:.0%} do in {len(across.pairs)} pairs across sequences: are '
                     f'all sequences in one map frame?', False)   # no more than doubts: two rooms may look alike


def _declared(frames: tuple[Frame, ...]) -> Suspect:
    return Suspect('as declared', np.stack([frame.T_map_cam.numpy() for frame in frames]))


def _judged(evidence: Evidence, frames: tuple[Frame, ...], taken: tuple[Frame, ...], mounts: Mapping[str, Tensor]) -> Agreement:
    declared = _fit(evidence, _declared(frames))
    measured = (f'{declared.share:.0%} of {len(evidence.pair_of)} matches in {len(evidence.pairs)} pairs of images agree with '
                f'them within {np.rad2deg(evidence.agreement_rad):.1f} deg, median {np.rad2deg(declared.median_rad):.2f} deg off')
    if declared.median_rad > _EXACT_RAD:
        found = _best(evidence, declared, usual_suspects(evidence, frames, taken, mounts))
        factor, focal_rad = _best_focal_length(evidence, declared.suspect)
        if focal_rad < _SAME * (found or declared).median_rad and focal_rad < _BETTER * declared.median_rad:
            return _judged_lens(declared, measured, factor)
        if found:
            return _judged_suspect(declared, measured, found)
    if declared.share < _DOUBTED_BELOW:
        return _judged_part(evidence, declared, measured, frames, taken, mounts)
    if evidence.moved_rad < _STILL_RAD:
        return Agreement(f'poses: {measured}: the camera hardly moves, which proves little', False)
    noisy = ': noisy poses make a blurred map' if declared.median_rad > _NOISY_RAD else ''
    return Agreement(f'poses: {measured}{noisy}', True)


def _judged_lens(declared: _Fit, measured: str, factor: float) -> Agreement:
    lens = f'they fit a focal length of {factor:.2f} times the declared one'
    off = abs(math.log(factor))
    if declared.share < _REFUSED_BELOW or off > _FOCAL_REFUSED:
        raise AprlocError(f'the images contradict the declared lens: {measured}; {lens}: mend the intrinsics')
    return Agreement(f'{"WARNING: " if off > _FOCAL_DOUBTED else ""}poses: {measured}; {lens}', True)


def _judged_suspect(declared: _Fit, measured: str, found: _Fit) -> Agreement:
    fits = f'they fit {found.suspect.text} ({found.share:.0%}, median {np.rad2deg(found.median_rad):.2f} deg off)'
    if found.suspect.is_fitted and declared.share >= _DOUBTED_BELOW and declared.median_rad < _NOISY_RAD:
        return Agreement(f'WARNING: poses: {measured}; {fits}', True)
    raise AprlocError(f'the poses contradict the images: {measured}; {fits}')


def _judged_part(evidence: Evidence, declared: _Fit, measured: str, frames: tuple[Frame, ...], taken: tuple[Frame, ...],
                 mounts: Mapping[str, Tensor]) -> Agreement:
    """Where no suspect fits all of the poses: one may fit a stretch of them."""
    bad = evidence.of_pairs(evidence.residuals(declared.suspect.T_map_cam)) > evidence.agreement_rad
    stretch = _stretch(evidence, bad)
    if not stretch and declared.share >= _REFUSED_BELOW:
        return Agreement(f'WARNING: poses: only {measured}: look at these poses', False)
    names = f', those that do not are of {frames[stretch[0]].name} to {frames[stretch[1]].name}' if stretch else ''
    part = Evidence(tuple(pair for pair, wrong in zip(evidence.pairs, bad) if wrong))
    found = None
    if stretch and len(part.pairs) >= _FEWEST_PAIRS:
        found = _best(part, _fit(part, declared.suspect), usual_suspects(part, frames, taken, mounts))
    reason = f'these fit {found.suspect.text}' if found else (
        f'none of the usual suspects fits ({_SUSPECTS}): check that these poses belong to these images')
    raise AprlocError(f'the poses contradict the images: {measured}{names}; {reason}')


def _fit(evidence: Evidence, suspect: Suspect) -> _Fit:
    residuals_rad = evidence.residuals(suspect.T_map_cam)
    residuals_rad = residuals_rad[np.isfinite(residuals_rad)]
    if len(residuals_rad) < len(evidence.pair_of) / 2:
        return _Fit(suspect, 0.0, np.inf)
    return _Fit(suspect, float((residuals_rad < evidence.agreement_rad).mean()), float(np.median(residuals_rad)))


def _best(evidence: Evidence, declared: _Fit, suspects: Iterable[Suspect]) -> _Fit | None:
    """The suspect that fits far better than the declared poses."""
    best, limit_rad = None, _BETTER * declared.median_rad
    for found in (_fit(evidence, suspect) for suspect in suspects):
        enough_rad = min(limit_rad, _NOISY_RAD) if found.suspect.is_odd else limit_rad
        if found.median_rad < enough_rad and found.share >= _FITS:
            best, limit_rad = found, _SAME * found.median_rad
    return best


def _best_focal_length(evidence: Evidence, declared: Suspect) -> tuple[float, float]:
    """Factor on the declared focal length, and the median residual with it, by the declared one; infinite where none fits."""
    best, found = 1.0, []
    for reach, count in ((5.0, 65), (1.05, 41)):
        found = [(fit.median_rad * factor if fit.share >= _FITS else np.inf, factor) for factor in
                 best * np.geomspace(1 / reach, reach, count) for fit in [_fit(evidence.with_focal_length(factor), declared)]]
        best = min(found)[1]
    return float(best), float(min(found)[0])


def _stretch(evidence: Evidence, bad: np.ndarray) -> tuple[int, int] | None:
    """First and last frame of the part of the capture that the bad pairs [P] touch and most of the others do not."""
    first, second = evidence.frames
    best, found = _LOCAL, None
    for start, end in combinations(np.unique(evidence.frames).tolist(), 2):
        touched = ((first >= start) & (first <= end)) | ((second >= start) & (second <= end))
        if (touched == bad).mean() > best and touched.mean() < _FITS:
            best, found = (touched == bad).mean(), (start, end)
    return found
