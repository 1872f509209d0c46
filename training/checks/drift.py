"""Poses that fit from image to image, but not from one end of a capture to the other, or from one camera's images to another's."""

import numpy as np

from aprloc_ros.training.checks.evidence import FAR, Evidence

_FEWEST = 6           # pairs of images, near ones and far ones
_TIMES = 3.0          # what far ones are off, of what near ones are: right poses have up to 1.6
_LEAST_RAD = 0.003


def drifted(evidence: Evidence, T_map_cam: np.ndarray, sequences: np.ndarray) -> str:
    """What to say where images far apart on the way, or of different sequences [N], fit the poses [N, 4, 4] far worse than neighbours do;
    empty where they do not. Noise is in both alike; a few pairs of places that look alike are no median.
    """
    off_rad, (first, second) = evidence.of_pairs(evidence.residuals(T_map_cam)), evidence.frames
    is_across = sequences[first] != sequences[second]
    is_far = ~is_across & (np.abs(second - first) > FAR * len(T_map_cam))
    is_near = ~is_across & ~is_far
    if is_near.sum() < _FEWEST:
        return ''
    near_rad = float(np.median(off_rad[is_near]))
    for chosen, where, asked in (
            (is_far, 'that are far apart on the way', 'did they drift, or do places look alike? pose the images anew: aprloc pose'),
            (is_across, 'of different sequences', 'are all sequences in one map frame, each camera\'s images under its own poses?')):
        far_rad = float(np.median(off_rad[chosen])) if chosen.sum() >= _FEWEST else 0.0
        if far_rad >= max(_TIMES * near_rad, _LEAST_RAD):
            return (f'{chosen.sum()} pairs of images {where} are {np.rad2deg(far_rad):.2f} deg off in the median, near ones '
                    f'{np.rad2deg(near_rad):.2f} deg: {asked}')
    return ''
