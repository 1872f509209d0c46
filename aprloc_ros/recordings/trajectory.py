"""Poses over time: between two of them by interpolation, as a TUM file, as cells of a table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, quaternion_to_rotation, rotation_to_quaternion, so3_exp, so3_log

# Stamps as float64 seconds since 1970 resolve 0.24 us.
SAME_STAMP_S = 1e-6
_LATEST_S = 1e11   # a stamp that is greater counts milliseconds, or less
_UNITS = ('milliseconds', '1e3'), ('microseconds', '1e6'), ('nanoseconds', '1e9')
POSE_CELLS = ('x', 'y', 'z', 'qw', 'qx', 'qy', 'qz')


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses with strictly increasing stamps, at least one."""

    stamps_s: Tensor   # [N] float64
    T_a_b: Tensor      # [N, 4, 4] float64

    def at(self, stamps_s: Tensor, max_gap_s: float) -> tuple[Tensor, Tensor]:
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


def make_trajectory(stamps_s: Sequence[float], poses: Sequence[Tensor]) -> Trajectory:
    """Sorted by stamp; of poses with the same stamp the first is kept."""
    stamps, index = np.unique(np.array(stamps_s, dtype=np.float64), return_index=True)
    return Trajectory(torch.from_numpy(stamps), torch.stack(list(poses))[torch.from_numpy(index)])


def check_seconds(stamp_s: float, where: str) -> None:
    """AprlocError for a stamp that is none in seconds, as some SLAMs write them."""
    if not abs(stamp_s) < _LATEST_S:
        unit = next((f'; {name} are to be divided by {per}' for name, per in _UNITS if _LATEST_S <= abs(stamp_s) < _LATEST_S * float(per)), '')
        raise AprlocError(f'{where}: the stamp {stamp_s:.6g} must be a finite number of seconds{unit}')


def read_tum(path: Path) -> Trajectory:
    """A file of lines `stamp tx ty tz qx qy qz qw`, stamps in seconds, read by evo."""
    from evo.core.trajectory import TrajectoryException
    from evo.tools.file_interface import FileInterfaceException, read_tum_trajectory_file

    try:
        read = read_tum_trajectory_file(str(path))
        table = np.column_stack([read.timestamps, read.positions_xyz, read.orientations_quat_wxyz])
    except (FileInterfaceException, TrajectoryException, OSError, ValueError) as error:
        raise AprlocError(f'{path}: not a TUM trajectory, lines of "stamp tx ty tz qx qy qz qw" '
                          f'({" ".join(str(error).split())})') from None
    for row in table:
        check_seconds(row[0], str(path))
        if not np.isfinite(row).all() or abs(np.linalg.norm(row[4:]) - 1) > 0.01:
            raise AprlocError(f'{path}: the pose at {row[0]:.6f} s is none: its numbers must be finite and its '
                              f'quaternion of length 1, not {np.linalg.norm(row[4:]):.3g}')
    values = torch.from_numpy(table)
    return make_trajectory(table[:, 0], pose(quaternion_to_rotation(values[:, 4:]), values[:, 1:4]))


def write_tum(path: Path, poses: Iterable[tuple[int, Tensor]]) -> None:
    """(stamp in nanoseconds, pose [4, 4]) -> a TUM file, stamps to the nanosecond."""
    with open(path, 'w') as file:
        for stamp_ns, T in poses:
            w, *xyz = rotation_to_quaternion(T[:3, :3]).tolist()
            numbers = ' '.join(f'{number:.9f}' for number in (*T[:3, 3].tolist(), *xyz, w))
            file.write(f'{stamp_text(stamp_ns)} {numbers}\n')


def stamp_text(stamp_ns: int) -> str:
    """Seconds, exact to the nanosecond."""
    return f'{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}'


def pose_cells(T: Tensor | None) -> list[str]:
    """Position and quaternion of [4, 4], as POSE_CELLS names them; empty cells for None."""
    if T is None:
        return [''] * len(POSE_CELLS)
    return [f'{number:.9g}' for number in (*T[:3, 3].tolist(), *rotation_to_quaternion(T[:3, :3]).tolist())]
