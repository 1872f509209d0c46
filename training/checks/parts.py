"""Two parts of a capture of which each is right by itself, but not against the other: a SLAM that began anew, or lost its scale."""

from dataclasses import dataclass, replace

import numpy as np

from aprloc_ros.training.checks.evidence import JUMP, Evidence
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.structure.two_views import Matcher

_FEWEST = 6          # pairs of images across the cut
_OUTLIER = 5.0       # times the residual that a quarter of the pairs has not
_LEAST_RAD = 0.003   # that is off
_OFF_ACROSS, _OFF_WITHIN = 0.6, 0.05   # shares of pairs
_SCALES, _FINER = np.geomspace(0.4, 2.5, 25), np.geomspace(0.96, 1.04, 9)   # of the second part
_BETTER = 0.4        # median residual across the cut with that scale
_LIKELY = 6          # places of a cut of which scales are tried
_CUTS = 6           # that are tried between two images that are compared


@dataclass(frozen=True, eq=False)
class Parts:
    """Frames before `cut` and from it on. across: their pairs."""

    across: Evidence
    median_rad: float             # of the pairs across
    earliest: int                 # the cut lies here
    latest: int                   # or up to there
    span: tuple[int, int]         # frames between which any cut lies that would explain the pairs, if less well
    limit_rad: float              # pairs with more are off
    scale: float | None = None    # by which the second part's way from the cut is too small or large, if that explains it


def parted(evidence: Evidence, T_map_cam: np.ndarray) -> Parts | None:
    """By pairs of all frames with the poses [N, 4, 4]: those across a cut are off, those on either side are not."""
    off_rad, (first, second) = evidence.of_pairs(evidence.residuals(T_map_cam)), np.sort(evidence.frames, 0)
    limit_rad = max(_OUTLIER * float(np.quantile(off_rad, 0.25)), _LEAST_RAD)
    is_off, known, found = off_rad > limit_rad, np.unique(evidence.frames), []
    for before, after in zip(known.tolist(), known[1:].tolist()):
        across = (first < after) & (second >= after)
        if min(across.sum(), (~across).sum()) < _FEWEST or is_off[across].mean() < _OFF_ACROSS or is_off[~across].mean() > _OFF_WITHIN:
            continue
        pairs = Evidence(tuple(pair for pair, is_across in zip(evidence.pairs, across) if is_across))
        wrong = int((is_off != across).sum())
        found.append((wrong, Parts(pairs, float(np.median(off_rad[across])), before + 1, after, (before, after), limit_rad)))
    if not found:
        return None
    span = found[0][1].span[0], found[-1][1].span[1]
    likely = [replace(parts, span=span) for _, parts in sorted(found, key=lambda entry: entry[0])[:_LIKELY]]
    scaled = [(median_rad, parts) for median_rad, parts in (_scaled(parts, T_map_cam) for parts in likely)
              if median_rad < min(limit_rad, _BETTER * parts.median_rad)]
    return min(scaled, key=lambda entry: entry[0])[1] if scaled else likely[0]


def _scaled(parts: Parts, T_map_cam: np.ndarray) -> tuple[float, Parts]:
    """With the scale of the second part about the pose before it that fits the pairs across best, and their median residual then."""
    def misfit(cut: int, scale: float) -> tuple[float, int, float]:
        T = T_map_cam.copy()
        T[cut:, :3, 3] = T[cut - 1, :3, 3] + (T[cut:, :3, 3] - T[cut - 1, :3, 3]) / scale
        return float(np.median(parts.across.residuals(T))), cut, scale
    cuts = np.unique(np.linspace(parts.earliest, parts.latest, _CUTS).astype(int)).tolist()
    _, cut, scale = min(misfit(cut, scale) for cut in cuts for scale in _SCALES)
    median_rad, cut, scale = min(misfit(cut, scale * finer) for finer in _FINER)
    return median_rad, replace(parts, earliest=cut, latest=cut, scale=float(scale))


def goes_on(taken: tuple[Frame, ...], first: Frame, last: Frame, limit_rad: float) -> bool:
    """Whether images on the whole way from one frame to another see one another as the poses say, which do not jump there. No cut lies
    between them then: pairs that do not fit show places that look alike, or a drift. taken: all frames in order, held-out ones too.
    """
    T_map_cam = np.stack([frame.T_map_cam.numpy() for frame in taken])
    step_m = np.linalg.norm(np.diff(T_map_cam[:, :3, 3], axis=0), axis=1)
    start, end = (next(i for i, frame in enumerate(taken) if frame.name == each.name) for each in (first, last))
    matcher = Matcher(taken)

    def linked(a: int, b: int) -> bool:
        pair = matcher.match(a, b)
        if pair is not None and np.median(Evidence((pair,)).residuals(T_map_cam)) < limit_rad:
            return True
        middle = (a + b) // 2
        return a < middle and linked(a, middle) and linked(middle, b)
    return bool((step_m[start:end] < JUMP * np.median(step_m)).all()) and linked(start, end)
