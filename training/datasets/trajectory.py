"""Poses over time: TUM trajectory files, and interpolation at the stamps of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, so3_exp, so3_log
from aprloc_ros.training.datasets.parsing import expect_count, floats, note_once, quaternion_pose, read_rows

# Two poses further apart than this are not interpolated: a walking person moves 0.3 m in that time.
MAX_GAP_S = 0.25
# Stamps as float64 seconds since 1970 resolve 0.24 us.
SAME_STAMP_S = 1e-6


@dataclass(frozen=True)
class Trajectory:
    """Poses with strictly increasing stamps."""

    stamps_s: Tensor   # [N] float64
    T_a_b: Tensor      # [N, 4, 4] float64

    def at(self, stamps_s: Tensor, max_gap_s: float = MAX_GAP_S) -> tuple[Tensor, Tensor]:
        """Stamps [M] -> interpolated poses [M, 4, 4] and whether each is known [M] (bool).

        Linear in position, constant angular velocity in between. Unknown: before the first pose, after the last, or
        between two that are more than max_gap_s apart.
        """
        above = torch.searchsorted(self.stamps_s, stamps_s).clamp(1, max(1, len(self.stamps_s) - 1))
        above = above.clamp_max(len(self.stamps_s) - 1)
        below = (above - 1).clamp_min(0)
        start, end = self.stamps_s[below], self.stamps_s[above]
        share = ((stamps_s - start) / (end - start).clamp_min(1e-12)).clamp(0, 1)
        first, last = self.T_a_b[below], self.T_a_b[above]
        turn = so3_log(first[:, :3, :3].mT @ last[:, :3, :3]) * share[:, None]
        position = torch.lerp(first[:, :3, 3], last[:, :3, 3], share[:, None])
        between = (stamps_s > start) & (stamps_s < end) & (end - start <= max_gap_s)
        exact = torch.minimum((stamps_s - start).abs(), (stamps_s - end).abs()) <= SAME_STAMP_S
        return pose(first[:, :3, :3] @ so3_exp(turn), position), between | exact


def make_trajectory(stamps_s: Sequence[float], poses: list[Tensor]) -> Trajectory:
    """Sorted by stamp; of poses with the same stamp the first is kept."""
    stamps, index = np.unique(np.array(stamps_s, dtype=np.float64), return_index=True)
    return Trajectory(torch.from_numpy(stamps), torch.stack(poses)[torch.from_numpy(index)])


def read_tum_trajectory(path: Path) -> Trajectory:
    """Lines `stamp tx ty tz qx qy qz qw` (stamp in seconds, pose of the camera in the map)."""
    stamps, poses, seen = [], [], {}
    for where, words in read_rows(path):
        expect_count(words, 8, 'stamp tx ty tz qx qy qz qw', where)
        stamp, tx, ty, tz, qx, qy, qz, qw = floats(words, where)
        if not np.isfinite(stamp):
            raise AprlocError(f'{where}: stamp {words[0]} must be a finite number of seconds')
        note_once(seen, words[0], where)
        stamps.append(stamp)
        poses.append(quaternion_pose([qw, qx, qy, qz], [tx, ty, tz], where))
    if not poses:
        raise AprlocError(f'{path}: holds no pose; a line is "stamp tx ty tz qx qy qz qw"')
    return make_trajectory(stamps, poses)
