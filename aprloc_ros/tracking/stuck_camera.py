"""A driver that hangs and gives out its last image for ever: no two images of a camera are alike to the last bit."""

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.geometry import invert, so3_log
from aprloc_ros.tracking.motion import MotionOptions

# Odometry of a robot that stands still, seen by a simulation's camera without noise: its noise with time, so many times,
# and what shakes beside it, in m and rad.
_SIGMAS = 4.0
_SHAKES = torch.tensor([0.02, 0.02], dtype=torch.float64)


class StuckCamera:
    """Compares each picture with the one before, and what odometry says of the time between."""

    def __init__(self):
        self.forget()

    def forget(self) -> None:
        """Odometry's poses until now lead to nothing that comes."""
        self._pixels: np.ndarray | None = None
        self._since_s, self._T_odom_base = 0.0, None   # of the first picture that was like the last one, where odometry is known

    def problem(self, pixels: np.ndarray, time_s: float, T_odom_base: Tensor | None, options: MotionOptions) -> str:
        """pixels [H, W, 3] of a stamp, where odometry's pose [4, 4] may be known -> what is wrong, in one line, or ''."""
        is_same = self._pixels is not None and time_s > self._since_s and np.array_equal(pixels, self._pixels)
        if not is_same or self._T_odom_base is None:
            self._pixels, self._since_s, self._T_odom_base = pixels, time_s, T_odom_base
        if T_odom_base is None:
            return ''
        way, elapsed_s = invert(self._T_odom_base) @ T_odom_base, time_s - self._since_s
        moved = torch.stack([way[:3, 3].norm(), so3_log(way[:3, :3]).norm()])
        standing = _SHAKES + _SIGMAS * elapsed_s * torch.tensor(options.odometry_noise_per_s, dtype=torch.float64)
        if (moved <= standing).all():
            return ''
        return (f'it is the same to the last bit as {elapsed_s:.1f} s before, but odometry moved {moved[0]:.2f} m and turned '
                f'{moved[1].rad2deg():.0f} deg: the camera or its driver hangs')
