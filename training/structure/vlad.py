"""VLAD of local features: which images show the same place (Jegou et al., CVPR 2010; normalised by word as Arandjelovic and Zisserman)."""

from collections.abc import Sequence

import cv2
import numpy as np

_WORDS = 32
_SAMPLES = 20_000


class Vocabulary:
    """Words learned from descriptors [N, D] float32, of at least 32 rows; repeatable."""

    def __init__(self, descriptors: np.ndarray):
        chosen = np.random.default_rng(0).permutation(len(descriptors))[:_SAMPLES]
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-3)
        cv2.setRNGSeed(0)
        _, _, self._words = cv2.kmeans(descriptors[chosen], _WORDS, None, criteria, 1, cv2.KMEANS_PP_CENTERS)

    def vlad(self, descriptors: np.ndarray) -> np.ndarray:
        """Descriptors [N, D] of one image -> [32 * D], of length 1 unless there are none."""
        word = np.argmax(descriptors @ self._words.T - (self._words ** 2).sum(1) / 2, 1)
        counted = (word == np.arange(_WORDS)[:, None]).astype(np.float32)   # [W, N]
        sums = counted @ descriptors - counted.sum(1, keepdims=True) * self._words
        sums /= np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-9)
        return sums.ravel() / np.linalg.norm(sums).clip(1e-9)


def likeness(described: Sequence[np.ndarray]) -> np.ndarray:
    """Cosines of the VLADs of images -> [M, M] float32, -1 on the diagonal.

    described: of each image [N, 128] uint8, SIFT as COLMAP stores it: RootSIFT of length 512.
    """
    share = min(1.0, _SAMPLES / max(1, sum(map(len, described))))
    samples = _rooted(np.concatenate([rows[:max(1, round(share * len(rows)))] for rows in described]))
    if len(samples) < _WORDS:
        return np.full((len(described),) * 2, -1.0, np.float32)
    vocabulary = Vocabulary(samples)
    vlads = np.stack([vocabulary.vlad(_rooted(rows)) for rows in described])
    found = vlads @ vlads.T
    np.fill_diagonal(found, -1.0)
    return found


def _rooted(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32) / 512
