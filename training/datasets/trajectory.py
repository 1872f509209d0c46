"""TUM trajectory files, each mistake in which names its line."""

from pathlib import Path

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.trajectory import Trajectory, check_seconds, make_trajectory
from aprloc_ros.training.datasets.parsing import expect_count, floats, note_once, quaternion_pose, read_rows

# Two poses further apart than this are not interpolated: a walking person moves 0.3 m in that time.
MAX_GAP_S = 0.25


def read_tum_trajectory(path: Path) -> Trajectory:
    """Lines `stamp tx ty tz qx qy qz qw` (stamp in seconds, pose of the camera in the map)."""
    stamps, poses, seen = [], [], {}
    for where, words in read_rows(path):
        expect_count(words, 8, 'stamp tx ty tz qx qy qz qw', where)
        stamp, tx, ty, tz, qx, qy, qz, qw = floats(words, where)
        check_seconds(stamp, where)
        note_once(seen, words[0], where)
        stamps.append(stamp)
        poses.append(quaternion_pose([qw, qx, qy, qz], [tx, ty, tz], where))
    if not poses:
        raise AprlocError(f'{path}: holds no pose; a line is "stamp tx ty tz qx qy qz qw"')
    return make_trajectory(stamps, poses)
