"""What of poses does not change although the images do: a source that measures less than a pose."""

import numpy as np
from torch import Tensor

_SAME_M, _SAME_RAD = 1e-6, 1e-6
_OFTEN = 0.3    # of the steps
_COARSE = 0.05  # of the usual step
_FLAT = 1e-3    # of the extent in the plane
_LEVEL_RAD = 1e-3


def stuck(T_map_cam: Tensor) -> str:
    """In words, of poses [N, 4, 4] in the order in which they were taken; empty where all changes."""
    T = T_map_cam.numpy()
    centres = T[:, :3, 3]
    step_m, step_rad = _steps(T)
    if (step_rad < _SAME_RAD).all():
        return 'all of them have the same rotation'
    if (step_m < _SAME_M).all():
        return 'all of them have the same position'
    if are_held(T):
        return f'{repeats(T).mean():.0%} of them repeat the one before: they come less often than the images, which need poses in between'
    for digits in range(3):
        if 10.0 ** -digits > _COARSE * np.median(step_m) and np.abs(centres - centres.round(digits)).max() < _SAME_M:
            return f'their positions are rounded to {10.0 ** -digits:g}'
    return ''


def repeats(T: np.ndarray) -> np.ndarray:
    """Which of the steps between poses [N, 4, 4] are none: [N - 1] bool."""
    step_m, step_rad = _steps(T)
    return (step_m < _SAME_M) & (step_rad < _SAME_RAD)


def are_held(T: np.ndarray) -> bool:
    """Whether poses [N, 4, 4] so often repeat the one before that they seem to come less often than the images."""
    return bool(len(T) > 1 and repeats(T).mean() > _OFTEN)


def _steps(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres and radians [N - 1]."""
    return (np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1),
            np.linalg.norm(np.diff(T[:, :3, :3], axis=0), axis=(1, 2)) / np.sqrt(2))


def is_planar(T_map_cam: Tensor) -> bool:
    """Whether cameras keep one height and one tilt against some axis, as on a robot on a floor, or by a source of plane poses."""
    T = T_map_cam.numpy()
    centres = T[:, :3, 3]
    extent, axes = np.linalg.svd(centres - centres.mean(0), full_matrices=False)[1:]
    tilts = T[:, :3, :3].swapaxes(1, 2) @ axes[2]   # [N, 3] the plane's normal in each camera
    return bool(extent[2] < _FLAT * extent[1] and np.abs(tilts - tilts.mean(0)).max() < _LEVEL_RAD)
