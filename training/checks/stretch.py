"""Which part of a capture has wrong poses, where the others are right."""

from itertools import combinations

import numpy as np

from aprloc_ros.training.checks.evidence import Evidence

_LOCAL = 0.9     # share of the pairs that a stretch of wrong frames explains
_FEWEST_BAD = 3
_WIDEST = 0.8    # share of the pairs that touch it
_SCATTERED, _FEWEST_SCATTERED = 0.12, 5   # share of the pairs of neighbours, which never show two places that look alike


def stretch(evidence: Evidence, bad: np.ndarray) -> tuple[int, int] | None:
    """First and last frame of the part of the capture that the bad pairs [P] touch and most of the others do not."""
    first, second = evidence.frames
    best, found = _LOCAL, None
    if bad.sum() < _FEWEST_BAD:
        return None
    for start, end in combinations(np.unique(evidence.frames).tolist(), 2):
        touched = ((first >= start) & (first <= end)) | ((second >= start) & (second <= end))
        if (touched == bad).mean() > best and touched.mean() < _WIDEST and bad[touched].sum() > _LOCAL * max(touched.sum(), _FEWEST_BAD):
            best, found = (touched == bad).mean(), (start, end)
    return found


def strangers(evidence: Evidence, bad: np.ndarray) -> list[int]:
    """Frames that match none of the others, where their pairs are bad [P] and those of the others are not: another camera's, say."""
    group = {frame: frame for frame in np.unique(evidence.frames).tolist()}   # of frames that matches link

    def root(frame: int) -> int:
        while group[frame] != frame:
            frame = group[frame]
        return frame
    for first, second in evidence.frames.T.tolist():
        group[root(second)] = root(first)
    of_pair = np.array([root(first) for first in evidence.frames[0].tolist()])
    shares = {number: bad[of_pair == number].mean() for number in np.unique(of_pair).tolist()}
    wrong = {number for number, share in shares.items() if share > _LOCAL}
    right = {number for number, share in shares.items() if share < 1 - _LOCAL}
    if not right or np.isin(of_pair, list(wrong)).sum() < _FEWEST_BAD:
        return []
    return [frame for frame in group if root(frame) in wrong]


def scattered(bad: np.ndarray, of_neighbours: np.ndarray) -> np.ndarray:
    """The bad ones [P] of the pairs of neighbours [P], where they are many; else none."""
    found = bad & of_neighbours
    return found if found.sum() >= max(_FEWEST_SCATTERED, _SCATTERED * of_neighbours.sum()) else np.zeros_like(bad)
