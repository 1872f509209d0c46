"""SIFT, the features of the bar: RootSIFT descriptors and a ratio test."""

import cv2
import numpy as np

from aprloc_ros.training.benchmarks.rivals.feature_map import LocalFeatures

_MOST = 2048
_RATIO = 0.8
_RIVALS = 20         # nearest descriptors among which another point is looked for


def extract(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [N, 2] of an image [H, W, 3] uint8 RGB and RootSIFT descriptors [N, 128]."""
    keypoints, descriptors = cv2.SIFT_create(_MOST).detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    if not keypoints:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    descriptors = np.sqrt(descriptors / descriptors.sum(1, keepdims=True).clip(1e-9))
    return np.array([k.pt for k in keypoints], np.float64), descriptors


def match(query: np.ndarray, known: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each query descriptor the point it matches, or -1: the nearest must beat the nearest of another point."""
    if len(known) < 2:
        return np.full(len(query), -1)
    similarity = query @ known.T
    ranked = np.argpartition(-similarity, min(_RIVALS, len(points) - 1), axis=1)[:, :_RIVALS + 1]
    found = np.take_along_axis(similarity, ranked, 1)
    best = points[ranked[np.arange(len(query)), found.argmax(1)]]
    other = np.where(points[ranked] == best[:, None], -np.inf, found).max(1)
    first, second = (np.sqrt(np.maximum(2 - 2 * nearness, 0)) for nearness in (found.max(1), other))
    return np.where(first < _RATIO * second, best, -1)


SIFT = LocalFeatures(extract, match)
