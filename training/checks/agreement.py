"""Do the poses of a capture agree with its images? Found out in seconds, before anything is built on them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import so3_log
from aprloc_ros.training.checks.declared_lens import LensFit, lens_fits
from aprloc_ros.training.checks.drift import drifted
from aprloc_ros.training.checks.evidence import FAR, Evidence, gather, gather_across, gather_jumps, gather_returns
from aprloc_ros.training.checks.fit import NOISY_RAD, SAME, Fit, Suspect, best, fit
from aprloc_ros.training.checks.parts import Parts, goes_on, parted
from aprloc_ros.training.checks.stretch import scattered, strangers, stretch
from aprloc_ros.training.checks.stuck import is_planar, stuck
from aprloc_ros.training.checks.suspects import usual_suspects
from aprloc_ros.training.datasets.capture import Frame

_REFUSED_BELOW = 0.7      # share of matches
_DOUBTED_BELOW = 0.85
_JUMPED_BELOW = 0.5       # of those across a jump of the poses
_EXACT_RAD = 0.002        # poses that are this good in the median need no suspects: keypoints are hardly better
_STILL_RAD = 0.015
_STRAIGHT_RAD = 0.2       # by which cameras turn on a way that says nothing of how they are mounted
_OUTLIER = 5.0            # a pair of images with so many times the usual residual is of frames that differ from the others
_SCALED = 0.05            # of the logarithm of a part's scale: less is drift
_ONE_FRAME = 'build from one of them, or pose all images together: aprloc pose'
_SUSPECTS = 'world-to-camera, axes, handedness, quaternion order, shifted frames, another body, units, lens'


@dataclass(frozen=True)
class Agreement:
    """What the images say of the poses."""

    text: str
    verified: bool    # False: it could not be checked, or there are doubts
    compared: bool = True   # False: too few images match one another
    of_lens: bool = False   # True: another lens than declared fits far better


def check_poses(frames: tuple[Frame, ...], taken: tuple[Frame, ...], mounts: Mapping[str, Tensor]) -> Agreement:
    """frames: whose images are compared; taken: all in the order in which they were, frames among them; mounts: see Capture.

    Raises AprlocError where the poses contradict the images; it says what was measured and which suspect fits.
    """
    gathered = gather(frames)
    if gathered is None:
        return Agreement('poses: not checked, too few images match one another', False, False)
    _check_scale(frames, parted(gathered, _poses(frames).numpy()))
    evidence, used = gathered.of_few()
    agreement = _judged(evidence, frames, used, taken, mounts)
    _check_jumps(frames, taken, evidence.agreement_rad)
    across = gather_across(frames) if agreement.verified else None
    whole = gathered.joined(across.pairs if across else ())
    parts = parted(whole, _poses(frames).numpy())
    _check_scale(frames, parts)
    if parts:
        return Agreement(f'{_warning(agreement.text)}; but {_apart(frames, taken, parts, whole.agreement_rad)}', False)
    if across and (share := fit(across, _declared(frames)).share) < _REFUSED_BELOW:
        return Agreement(f'{_warning(agreement.text)}; but only {share:.0%} do in {len(across.pairs)} pairs across sequences: are all '
                         f'sequences in one map frame?', False)   # no more than doubts: two rooms may look alike
    drift = '' if agreement.of_lens else drifted(whole.joined(gather_returns(frames, used.tolist())), _poses(frames).numpy(),
                                                 np.array([frame.sequence for frame in frames]))
    return Agreement(f'{_warning(agreement.text)}; but {drift}', False) if drift else agreement


def _warning(text: str) -> str:
    return f'WARNING: {text.removeprefix("WARNING: ")}'


def _check_scale(frames: tuple[Frame, ...], parts: Parts | None):
    if parts and parts.scale and abs(np.log(parts.scale)) > _SCALED:
        raise AprlocError(f'the poses contradict the images: from {frames[parts.latest].name} on the way is {parts.scale:.3g} times what '
                          f'it should be against that before ({_off(parts)}): a SLAM that lost its scale? {_ONE_FRAME}')


def _apart(frames: tuple[Frame, ...], taken: tuple[Frame, ...], parts: Parts, agreement_rad: float) -> str:
    """What to say of two parts that do not fit each other. AprlocError where that is more than drift, in one sequence, and the way
    from one to the other is not seen: two rooms may look alike."""
    text = f'those from {frames[parts.latest].name} on do not fit those before ({_off(parts)})'
    agree = (parts.across.residuals(_poses(frames).numpy()) < agreement_rad).mean()
    if agree >= _JUMPED_BELOW:
        return f'{text}: did they drift apart, or do two places look alike? {_ONE_FRAME}'
    if frames[parts.earliest - 1].sequence != frames[parts.latest].sequence:
        return f'{text}: are all sequences in one map frame?'
    first, last = parts.span
    if goes_on(taken, frames[first], frames[last], parts.limit_rad):
        return f'{text}, though all images in between fit one another: do two places look alike, or did the poses drift?'
    raise AprlocError(f'the poses contradict the images: {text}: is each part in a map frame of its own? {_ONE_FRAME}')


def _off(parts: Parts) -> str:
    return (f'{len(parts.across.pairs)} pairs of images of both are {np.rad2deg(parts.median_rad):.2f} deg off in the median, others '
            'are not')


def _check_jumps(frames: tuple[Frame, ...], taken: tuple[Frame, ...], agreement_rad: float):
    """Two parts that are right by themselves, in frames of their own: a SLAM that began anew. A few wrong poses are
    none: beyond them pairs fit."""
    for after, evidence in gather_jumps(frames):
        residuals_rad = evidence.residuals(_poses(frames).numpy())
        share = float((residuals_rad < agreement_rad).mean())
        if share < _JUMPED_BELOW and evidence.of_pairs(residuals_rad).min() > NOISY_RAD:
            reason = stuck(_poses(taken)) or f'is each part in a map frame of its own? {_ONE_FRAME}'
            raise AprlocError(
                f'the poses contradict the images: they jump between {frames[after - 1].name} and {frames[after].name}, and the images '
                f'do not: {share:.0%} of {len(residuals_rad)} matches in {len(evidence.pairs)} pairs around there agree with them '
                f'within {np.rad2deg(agreement_rad):.1f} deg; {reason}')


def _declared(frames: tuple[Frame, ...]) -> Suspect:
    return Suspect('as declared', _poses(frames).numpy())


def _poses(frames: tuple[Frame, ...]) -> Tensor:
    return torch.stack([frame.T_map_cam for frame in frames])


def _judged(evidence: Evidence, frames: tuple[Frame, ...], used: np.ndarray, taken: tuple[Frame, ...],
            mounts: Mapping[str, Tensor]) -> Agreement:
    """used: which of the frames the evidence numbers [K]."""
    matched = tuple(frames[index] for index in used)
    declared = fit(evidence, _declared(matched))
    measured = (f'{declared.share:.0%} of {len(evidence.pair_of)} matches in {len(evidence.pairs)} pairs of images agree with '
                f'them within {np.rad2deg(evidence.agreement_rad):.1f} deg, median {np.rad2deg(declared.median_rad):.2f} deg off')
    if declared.median_rad > _EXACT_RAD:
        found = best(evidence, declared, usual_suspects(evidence, matched, taken, mounts))
        lens = _best_lens(evidence, declared, matched)
        if lens and lens.median_rad < (1 / SAME if _is_straight(declared) else SAME) * (found or declared).median_rad:
            return _judged_lens(declared, measured, lens)
        if found:
            return _judged_suspect(declared, measured, found, stuck(_poses(taken)))
    part, which = _worse_part(evidence, declared, frames, used)
    if part:
        _judge_part(part, which, measured, taken, mounts)
    if declared.share < _REFUSED_BELOW:
        raise AprlocError(f'the poses contradict the images: {measured}; {_nothing_fits(taken)}')
    where = f': look at those of {which}' if part else _here_and_there(evidence, declared, frames, used)
    if declared.share < _DOUBTED_BELOW:
        return Agreement(f'WARNING: poses: only {measured}{where or ": look at these poses"}', False)
    if evidence.moved_rad < _STILL_RAD:
        return Agreement(f'poses: {measured}: the camera hardly moves, which proves little', False)
    noisy = f': noisy poses make a blurred map{_coarse(_poses(taken))}' if declared.median_rad > NOISY_RAD else ''
    return Agreement(f'{"WARNING: " if where else ""}poses: {measured}{noisy}{where}', True)


def _best_lens(evidence: Evidence, declared: Fit, frames: tuple[Frame, ...]) -> LensFit | None:
    """The simplest that fits far better than the declared one."""
    camera, _ = Counter(frame.camera for frame in frames).most_common(1)[0]
    found = None
    for lens in lens_fits(evidence, declared.suspect, camera):
        if lens.median_rad < lens.better * declared.median_rad and (not found or lens.median_rad < SAME * found.median_rad):
            found = lens
    return found


def _judged_lens(declared: Fit, measured: str, lens: LensFit) -> Agreement:
    if declared.share < _REFUSED_BELOW or lens.is_refused:
        alike = ' (or the extrinsics of the camera: on a straight way both look alike)' if _is_straight(declared) else ''
        raise AprlocError(f'the images contradict the declared lens: {measured}; {lens.text}: mend the intrinsics{alike}')
    return Agreement(f'{"WARNING: " if lens.is_doubted else ""}poses: {measured}; {lens.text}', True, of_lens=True)


def _is_straight(declared: Fit) -> bool:
    """Whether cameras turn too little to tell a lens from how it is mounted."""
    R = torch.from_numpy(declared.suspect.T_map_cam[:, :3, :3])
    return bool(so3_log(R[:1].mT @ R).norm(dim=1).max() <= _STRAIGHT_RAD)


def _judged_suspect(declared: Fit, measured: str, found: Fit, peculiar: str) -> Agreement:
    fits = (f'they fit {found.suspect.text} ({found.share:.0%}, median {np.rad2deg(found.median_rad):.2f} deg off)'
            f'{"; " * bool(peculiar)}{peculiar}')
    if found.suspect.is_fitted and declared.share >= _DOUBTED_BELOW and declared.median_rad < NOISY_RAD:
        return Agreement(f'WARNING: poses: {measured}; {fits}', True)
    raise AprlocError(f'the poses contradict the images: {measured}; {fits}')


def _worse_part(evidence: Evidence, declared: Fit, frames: tuple[Frame, ...], used: np.ndarray) -> tuple[tuple[Frame, ...], str]:
    """Frames of which most pairs fit far worse than usual where others do not, and which these are; none is ()."""
    is_worse, _ = _worse(evidence, declared)
    ends, others = stretch(evidence, is_worse), strangers(evidence, is_worse)
    if ends:
        part = frames[used[ends[0]]:used[ends[1]] + 1]
        return part, _ends(part)
    part = tuple(frames[used[index]] for index in others)
    named = f'{", ".join(frame.name for frame in part[:3])}{" ..." * (len(part) > 3)}'
    return part, f'{named} ({len(part)} images that match none of the others: another camera\'s?)'


def _worse(evidence: Evidence, declared: Fit) -> tuple[np.ndarray, float]:
    """Which pairs [P] fit far worse than usual, and from how many radians on."""
    limit_rad = float(np.clip(_OUTLIER * declared.median_rad, NOISY_RAD, evidence.agreement_rad))
    return evidence.of_pairs(evidence.residuals(declared.suspect.T_map_cam)) > limit_rad, limit_rad


def _here_and_there(evidence: Evidence, declared: Fit, frames: tuple[Frame, ...], used: np.ndarray) -> str:
    """What to say of single images, here and there, that have poses of others; empty where too few seem so."""
    is_worse, limit_rad = _worse(evidence, declared)
    first, second = used[evidence.frames]
    of_neighbours = np.abs(second - first) <= FAR * len(frames)
    found = np.flatnonzero(scattered(is_worse, of_neighbours))
    if not len(found):
        return ''
    named = ', '.join(f'{frames[first[pair]].name} and {frames[second[pair]].name}' for pair in found[:3])
    return (f': {len(found)} of {of_neighbours.sum()} pairs of neighbours are more than {np.rad2deg(limit_rad):.1f} deg off ({named}): have some '
            f'images the poses of others?')


def _judge_part(part: tuple[Frame, ...], which: str, measured: str, taken: tuple[Frame, ...], mounts: Mapping[str, Tensor]):
    """Frames that fit worse than the others, by more pairs of their own: one suspect may fit all of them. which: in words."""
    gathered = gather(part)
    if gathered is None:
        return
    evidence, used = gathered.of_few()
    matched = tuple(part[index] for index in used)
    declared = fit(evidence, _declared(matched))
    found = best(evidence, declared, usual_suspects(evidence, matched, taken, mounts)) if declared.median_rad > _EXACT_RAD else None
    if found and found.suspect.is_fitted and declared.share >= _DOUBTED_BELOW:
        found = None
    if not found and declared.share >= _REFUSED_BELOW:
        return
    reason = f'these fit {found.suspect.text}' if found else _nothing_fits(part)
    raise AprlocError(f'the poses contradict the images: {measured}; of those of {which} only {declared.share:.0%} do; {reason}')


def _ends(part: tuple[Frame, ...]) -> str:
    return f'{part[0].name} to {part[-1].name}'


def _nothing_fits(taken: tuple[Frame, ...]) -> str:
    """What to say where no suspect fits."""
    T_map_cam = _poses(taken)
    return stuck(T_map_cam) or (f'none of the usual suspects fits ({_SUSPECTS}): check that these poses belong to these images'
                                f'{_coarse(T_map_cam)}')


def _coarse(T_map_cam: Tensor) -> str:
    """What poses [N, 4, 4] do not tell, in brackets; empty where they tell all."""
    planar = 'they know a plane and a heading alone: a camera that tilts or climbs has more' if is_planar(T_map_cam) else ''
    found = stuck(T_map_cam) or planar
    return f' ({found})' if found else ''
