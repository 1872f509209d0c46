"""VisualSFM's reconstruction.nvm (NVM_V3): cameras, points and which camera saw which point.

Format: http://ccwu.me/vsfm/doc.html#nvm. One line a camera: name, focal, quaternion w x y z of the world-to-camera
rotation, camera centre, radial distortion, 0. One line a point: x y z, r g b, count, then count times
(camera index, feature index, x, y) with x, y measured from the image's centre.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.parsing import expect_count, floats, read_text


@dataclass(frozen=True)
class Nvm:
    names: list[str]         # image names as in the file
    focal: np.ndarray        # [N] pixels
    radial: np.ndarray       # [N] of the measurement, normalised: undistorted = (1 + radial * |m / f|^2) m
    centres: np.ndarray      # [N, 3]
    xyz: np.ndarray          # [P, 3]
    image_of: np.ndarray     # [O] int64
    point_of: np.ndarray     # [O] int64
    reach: np.ndarray        # [2] greatest |x| and |y| of a measurement from the image's centre, pixels


def read_nvm(path: Path) -> Nvm:
    """AprlocError with file and line for a missing, foreign, truncated or inconsistent file."""
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).splitlines(), 1)]
    lines = iter([(f'{path}:{number}', words) for number, words in lines if words])
    where, words = _next(lines, path, 'the header')
    if words[0] != 'NVM_V3' or len(words) > 1:
        raise AprlocError(f'{where}: begins with {" ".join(words)[:40]!r}, not with NVM_V3')
    cameras = _read_cameras(lines, path)
    return Nvm(*cameras, *_read_points(lines, path, len(cameras[0])))


def _next(lines, path: Path, what: str) -> tuple[str, list[str]]:
    try:
        return next(lines)
    except StopIteration:
        raise AprlocError(f'{path}: ends before {what}; the file is truncated') from None


def _count(lines, path: Path, what: str) -> int:
    where, words = _next(lines, path, f'the number of {what}')
    if len(words) != 1 or not words[0].isdecimal():
        raise AprlocError(f'{where}: {" ".join(words)[:40]!r} where the number of {what} belongs')
    return int(words[0])


def _read_cameras(lines, path: Path):
    names, values = [], []
    for _ in range(_count(lines, path, 'cameras')):
        where, words = _next(lines, path, 'its last camera')
        expect_count(words, 11, 'name focal qw qx qy qz cx cy cz radial 0', where)
        row = floats(words[1:], where)
        if not np.isfinite(row).all() or row[0] <= 0:
            raise AprlocError(f'{where}: focal length {words[1]} and pose must be finite, the focal length positive')
        names.append(words[0])
        values.append(row)
    table = np.array(values).reshape(-1, 10)
    return names, table[:, 0], table[:, 8], table[:, 5:8]


def _read_points(lines, path: Path, cameras: int):
    xyz, image_of, per_point = [], [], []
    reach = [0.0, 0.0]
    for _ in range(_count(lines, path, 'points')):
        where, words = _next(lines, path, 'its last point')
        views = int(words[6]) if len(words) > 6 and words[6].isdecimal() else 0
        expect_count(words, 7 + 4 * views, 'x y z r g b count, then 4 a view', where)
        xyz.append(floats(words[:3], where))
        seen_by = floats(words[7::4], where)
        if not all(0 <= camera < cameras for camera in seen_by):
            raise AprlocError(f'{where}: a view names a camera outside 0 to {cameras - 1}')
        image_of += seen_by
        per_point.append(views)
        for axis in (0, 1):
            reach[axis] = max(reach[axis], *map(abs, floats(words[9 + axis::4], where)), 0.0)
    point_of = np.repeat(np.arange(len(xyz)), per_point)
    return np.array(xyz).reshape(-1, 3), np.array(image_of, dtype=np.int64), point_of, np.array(reach)
