"""TUM RGB-D (Sturm et al., IROS 2012): rgb.txt, depth.txt and groundtruth.txt, each with stamps of its own.

An image's pose is interpolated from groundtruth.txt; images that it does not cover are left out. Depth images are
registered to the colour ones, 5000 units a metre. The axes are those of OpenCV, the pose is camera-to-world.
"""

import re
from pathlib import Path

import numpy as np
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError, typed
from aprloc_ros.recordings.camera_info import read_camera_yaml
from aprloc_ros.recordings.trajectory import check_seconds
from aprloc_ros.training.datasets.capture import Capture, Frame, NoPoses
from aprloc_ros.training.datasets.files import image_size, locate, tidy
from aprloc_ros.training.datasets.parsing import (
    check_image,
    checked_camera,
    checked_capture,
    expect_count,
    floats,
    note_once,
    read_rows,
)
from aprloc_ros.training.datasets.splits import held_out, left_out
from aprloc_ros.training.datasets.trajectory import MAX_GAP_S, read_tum_trajectory

FORMAT = 'tum'
LOOKED_FOR = 'rgb.txt and groundtruth.txt (TUM RGB-D)'
DEPTH_UNIT_M = 1 / 5000
# Half of the period of the 30 Hz cameras, and a little.
MAX_DEPTH_GAP_S = 0.02
# fx fy cx cy, k1 k2 p1 p2 k3 of the dataset's own calibration of its three colour cameras.
FREIBURG = {
    '1': (517.3, 516.5, 318.6, 255.3, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    '2': (520.9, 521.0, 325.1, 249.7, (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    '3': (535.4, 539.2, 320.1, 247.6, ()),
}


def recognises(path: Path) -> bool:
    return (path / 'rgb.txt').is_file()


def read(path: Path) -> Capture:
    images = _read_list(path, path / 'rgb.txt')
    if not images:
        raise AprlocError(f'{path / "rgb.txt"}: lists no image; a line is "stamp filename"')
    depths = _read_list(path, path / 'depth.txt') if (path / 'depth.txt').is_file() else []
    stamps_s = torch.tensor([stamp for stamp, _ in images], dtype=torch.float64)
    if not (path / 'groundtruth.txt').is_file():
        raise NoPoses(f'{path}: rgb.txt lists images, but there is no groundtruth.txt with their poses; write one (lines "stamp tx ty tz '
                      f'qx qy qz qw"), or find them from the images: aprloc pose {typed(path)} --out CAPTURE')
    T_map_cam, known = read_tum_trajectory(path / 'groundtruth.txt').at(stamps_s, MAX_GAP_S)
    if not known.any():
        raise AprlocError(f'{path / "groundtruth.txt"}: covers none of the {len(images)} images of rgb.txt; '
                          f'are the stamps of the same clock?')
    camera = read_camera(path, image_size(images[0][1]))
    depth_stamps = np.array([stamp for stamp, _ in depths])
    frames = tuple(
        Frame(_name(image, path), image, T, camera, stamp_s=stamp,
              depth_path=_nearest(stamp, depth_stamps, depths), depth_unit_m=DEPTH_UNIT_M)
        for (stamp, image), T, keep in zip(images, T_map_cam, known) if keep)
    unposed = ()
    if len(frames) < len(images):
        said = (f'{len(images) - len(frames)} of {len(images)} images of rgb.txt are not used: groundtruth.txt has no pose at their '
                f'time, nor two around it at most {MAX_GAP_S} s apart')
        unposed = (said,)
    train, test = held_out(frames, '; '.join([str(path / 'rgb.txt'), *unposed]))
    notes = (*unposed, *left_out(frames, train, test))
    return checked_capture(Capture(path.name, FORMAT, path, train, test, notes=notes), path / 'rgb.txt')


def _read_list(root: Path, file: Path) -> list[tuple[float, Path]]:
    """(stamp, image) in the order of time."""
    entries, seen = [], {}
    for where, words in read_rows(file):
        if len(words) < 2:
            expect_count(words, 2, 'stamp filename', where)
        stamp, = floats(words[:1], where)
        check_seconds(stamp, where)
        name = ' '.join(words[1:])
        note_once(seen, tidy(name), where)
        entries.append((stamp, check_image(locate(root, name), where)))
    return sorted(entries)


def _name(image: Path, root: Path) -> str:
    return (image.relative_to(root) if image.is_relative_to(root) else image).as_posix()


def _nearest(stamp: float, stamps: np.ndarray, depths: list[tuple[float, Path]]) -> Path | None:
    if len(stamps) == 0:
        return None
    index = np.abs(stamps - stamp).argmin()
    return depths[index][1] if abs(stamps[index] - stamp) <= MAX_DEPTH_GAP_S else None


def read_camera(path: Path, size: tuple[int, int]) -> Camera:
    """camera.yaml or calibration.txt of the folder, else the Freiburg camera that its name tells."""
    if (path / 'camera.yaml').is_file():
        return read_camera_yaml(path / 'camera.yaml')
    if (path / 'calibration.txt').is_file():
        return _text_camera(path / 'calibration.txt', size)
    match = re.search(r'(?:freiburg|fr)([123])(?!\d)', path.resolve().name)
    if not match:
        raise AprlocError(f'{path}: no intrinsics: write {path / "calibration.txt"} with one line '
                          f'"fx fy cx cy k1 k2 p1 p2 k3" (pixels; the last five may be left out), or a ROS camera.yaml')
    fx, fy, cx, cy, distortion = FREIBURG[match[1]]
    return Camera(640, 480, fx, fy, cx, cy, 'opencv' if distortion else 'pinhole', distortion)


def _text_camera(file: Path, size: tuple[int, int]) -> Camera:
    rows = read_rows(file)
    if len(rows) != 1 or len(rows[0][1]) not in (4, 8, 9):
        raise AprlocError(f'{rows[0][0] if rows else file}: must hold one line "fx fy cx cy" or '
                          f'"fx fy cx cy k1 k2 p1 p2 k3"')
    where, words = rows[0]
    values = floats(words, where)
    return _lens((*size, *values[:4]), tuple(values[4:]), 'opencv', where)


def _lens(values: tuple, distortion: tuple[float, ...], model: str, where: str) -> Camera:
    """A pinhole when no coefficient of a perspective lens is different from zero."""
    if model == 'opencv' and not any(distortion):
        return checked_camera(where, *values)
    return checked_camera(where, *values, model, distortion)
