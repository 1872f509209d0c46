"""Which pairs of images to match: neighbours in time, loops found by likeness, photos that look alike."""

from collections.abc import Sequence

import numpy as np

_OVERLAP = 8            # neighbours in time that are matched with each image
_LOOPS = 4              # alike images of other times
_APART = 8              # images in time between two loops of one image: their neighbours see the same
_ALIKE = 20             # partners of a photo
_SMALL = 60             # so many photos are matched with each other


def in_order(sequences: Sequence[str]) -> set[tuple[int, int]]:
    """Neighbours among images of the same sequence, up to eight apart, then at powers of two."""
    distances = sorted({*range(1, _OVERLAP + 1), *(2 ** k for k in range(len(sequences).bit_length()))})
    return {(i, i + d) for d in distances for i in range(len(sequences) - d) if sequences[i] == sequences[i + d]}


def loops(likeness: np.ndarray) -> set[tuple[int, int]]:
    """Of each image the most alike ones [N, N] that are no neighbours in time, nor of one another."""
    count, found = len(likeness), set()
    for i in range(count):
        free = np.abs(np.arange(count) - i) > _OVERLAP
        for _ in range(_LOOPS):
            if not free.any():
                break
            j = int(np.where(free, likeness[i], -np.inf).argmax())
            found.add((min(i, j), max(i, j)))
            free &= np.abs(np.arange(count) - j) > _APART
    return found


def alike(likeness: np.ndarray) -> set[tuple[int, int]]:
    """Photos in no order: all pairs of few, else of each the most alike ones."""
    count = len(likeness)
    if count <= _SMALL:
        return {(i, j) for i in range(count) for j in range(i + 1, count)}
    nearest = np.argsort(-likeness, axis=1, kind='stable')[:, :_ALIKE]
    return {(min(i, int(j)), max(i, int(j))) for i in range(count) for j in nearest[i] if i != j}
