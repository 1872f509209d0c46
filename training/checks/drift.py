"""Poses that fit from image to image, but not from one end of a capture to the other: odometry, or a SLAM that closes no loop."""

import numpy as np

from aprloc_ros.training.checks.evidence import FAR, Evidence

_FEWEST = 6           # pairs of images, near ones and far ones
_TIMES = 3.0          # what far ones are off, of what near ones are: right poses have up to 1.6
_LEAST_RAD = 0.003


def drifted(evidence: Evidence, T_map_cam: np.ndarray) -> str:
    """What to say where images far apart on the way fit the poses [N, 4, 4] far worse than neighbours do; empty where they do not.

    Noise and a wrong lens are in both alike; a few pairs of places that look alike are no median.
    """
    off_rad = evidence.of_pairs(evidence.residuals(T_map_cam))
    is_far = np.abs(np.diff(evidence.frames, axis=0)[0]) > FAR * len(T_map_cam)
    if min(is_far.sum(), (~is_far).sum()) < _FEWEST:
        return ''
    near_rad, far_rad = float(np.median(off_rad[~is_far])), float(np.median(off_rad[is_far]))
    if far_rad < max(_TIMES * near_rad, _LEAST_RAD):
        return ''
    return (f'{is_far.sum()} pairs of images that are far apart on the way are {np.rad2deg(far_rad):.2f} deg off in the median, near ones '
            f'{np.rad2deg(near_rad):.2f} deg')
