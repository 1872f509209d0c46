"""Which part of a capture has wrong poses, where the others are right."""

from itertools import combinations

import numpy as np

from aprloc_ros.training.checks.evidence import Evidence

_LOCAL = 0.9     # share of the pairs that a stretch of wrong frames explains
_FEWEST_BAD = 3
_WIDEST = 0.8    # share of the pairs that touch it


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
