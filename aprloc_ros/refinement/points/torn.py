"""Is an image torn: rows above a line of one moment, those below it of another, as a driver leaves them that overwrites what is read?

The pose that most matches agree on is of one part. Matches of the other then contradict it, which alone says nothing (something may
stand there), but agree on another pose.
"""

import numpy as np

from aprloc_ros.refinement.consensus import consensus
from aprloc_ros.refinement.gnc import Pinhole

_LINES = (0.25, 0.5, 0.75)   # of the height: a tear between two is seen by one of them
_INLIER_CELLS = 1.5
_SIGMAS_CELLS = (8.0, 8.0, 4.0, 4.0, 2.0, 1.0)   # a step each
_TIMES, _MORE = 3, 10        # a part has so many times the inliers, and so many more, under a pose of its own: chance finds a few
_AS_SURE = 0.4               # or more of the share that the rest has under the answer: chance finds a tenth


def is_torn(cells: np.ndarray, xyz: np.ndarray, camera: Pinhole, T_cam_map: np.ndarray) -> bool:
    """By matches: cells [N, 2] of points xyz [N, 3], at the answer's pose [4, 4]."""
    projected, cam, inside = camera.project(xyz, T_cam_map)
    left, agrees = projected - cells, _agree(projected - cells)
    for line in _LINES:
        above = projected[:, 1] < line * camera.height
        for part, rest in ((above & inside, ~above & inside), (~above & inside, above & inside)):
            count, few = part.sum(), agrees[part].sum()
            if not rest.any() or count < _TIMES * few + _MORE:
                continue
            J = camera.jacobian(cam[part])
            own = consensus(left[part], J, part[part], _SIGMAS_CELLS)   # a pose of its own
            if own and _agree(left[part] + J @ own.step).sum() >= max(_TIMES * few + _MORE, _AS_SURE * agrees[rest].mean() * count):
                return True
    return False


def _agree(left: np.ndarray) -> np.ndarray:
    return np.hypot(*left.T) < _INLIER_CELLS
