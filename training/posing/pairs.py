"""Which pairs of images to match: neighbours in time, loops found by likeness, photos that look alike."""

import bisect
from collections.abc import Sequence

import numpy as np

_KEYS_BESIDE = 2        # before and after an image that is none, which are matched with it
_OVERLAP = 8            # neighbours in time that are matched with each image
_LOOPS = 4              # alike images of other times
_APART = 8              # images in time between two loops of one image: their neighbours see the same
_ALIKE = 20             # partners of a photo
_SMALL = 60             # so many photos are matched with each other


def in_order(sequences: Sequence[str]) -> set[tuple[int, int]]:
    """Neighbours among images of the same sequence, up to eight apart, then at powers of two."""
    distances = sorted({*range(1, _OVERLAP + 1), *(2 ** k for k in range(len(sequences).bit_length()))})
    return {(i, i + d) for d in distances for i in range(len(sequences) - d) if sequences[i] == sequences[i + d]}


def beside_keys(sequences: Sequence[str], keys: Sequence[int]) -> set[tuple[int, int]]:
    """Each image that is no key with the nearest keys of its sequence; keys: positions, in order."""
    found, is_key = set(), set(keys)
    for i in (i for i in range(len(sequences)) if i not in is_key):
        after = bisect.bisect(keys, i)
        near = keys[max(0, after - _KEYS_BESIDE):after + _KEYS_BESIDE]
        found |= {(min(i, k), max(i, k)) for k in near if sequences[i] == sequences[k]}
    return found


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
