"""How fast the camera goes by its poses and stamps: positions in millimetres fit the images as well as metres do."""

import numpy as np

from aprloc_ros.training.datasets.capture import Frame

_FASTEST_M_S = 60.0


def too_fast(taken: tuple[Frame, ...]) -> str:
    """What to say of frames in the order in which they were taken; empty where they go at a speed that cameras have, or have no stamps."""
    if len(taken) < 2 or any(frame.stamp_s is None for frame in taken):
        return ''
    steps_s = np.diff([frame.stamp_s for frame in taken])
    steps_m = np.linalg.norm(np.diff(np.stack([frame.T_map_cam[:3, 3].numpy() for frame in taken]), axis=0), axis=1)
    known = steps_s > 0   # not from one sequence to the next
    speed_m_s = float(np.median(steps_m[known] / steps_s[known])) if known.any() else 0.0
    if speed_m_s < _FASTEST_M_S:
        return ''
    return (f'WARNING: poses: by their stamps the camera goes {speed_m_s:.0f} m/s in the median: are the positions in millimetres or '
            f'centimetres, or the stamps in milliseconds? the map would say so too')
