"""Whether homographies between images are what a camera that only turned would see, whatever its focal length."""

from collections.abc import Sequence

import numpy as np

_FOCALS = np.geomspace(0.4, 6.0, 40)   # of the longer side
_SAME = 0.03         # of the residual, in nine tenths of the pairs: those of a walk along a flat wall have 0.06
_PAIRS = 200         # that are looked at


def only_turned(homographies: Sequence[np.ndarray], width: int, height: int) -> bool:
    """Whether all these pairs of images [3, 3] look as if the camera had turned in place."""
    chosen = np.unique(np.linspace(0, len(homographies) - 1, min(_PAIRS, len(homographies))).round().astype(int))
    return bool(np.quantile([turn_residual(homographies[k], width, height) for k in chosen], 0.9) < _SAME)


def turn_residual(H: np.ndarray, width: int, height: int) -> float:
    """The least |M M^T - I| of M = K^-1 H K of determinant 1, over the focal lengths that cameras have.

    H [3, 3] takes pixels to pixels; it is K R K^-1 where the camera turned (Hartley and Zisserman, section 8.4.2).
    """
    if not np.isfinite(H).all() or abs(np.linalg.det(H)) < 1e-12:
        return np.inf
    least = np.inf
    for focal in _FOCALS * max(width, height):
        K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        M = np.linalg.inv(K) @ H @ K
        M = M / np.cbrt(np.linalg.det(M))
        least = min(least, float(np.linalg.norm(M @ M.T - np.eye(3))))
    return least
