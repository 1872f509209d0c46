"""7-Scenes (Shotton et al., CVPR 2013), with its own poses or the SfM pseudo ground truth.

Own: TrainSplit.txt / TestSplit.txt name sequences, `seq-01/frame-000000.pose.txt` is a 4x4 camera-to-world matrix.
Pseudo ground truth (Brachmann et al., ICCV 2021): `<scene>_train.txt` / `<scene>_test.txt` in the scene's folder or
its `pgt/`, lines `image qw qx qy qz tx ty tz focal`, world-to-camera; it is taken where it lies.

The raw depth images are the depth sensor's (f = 585, 2.5 cm aside) and are not read; `frame-*.depth.proj.png`,
registered to the colour camera, are.
"""

import re
from pathlib import Path

import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import check_pose, invert
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.files import image_size, locate, tidy, unposed, visible
from aprloc_ros.training.datasets.parsing import (
    check_image,
    checked_capture,
    expect_count,
    floats,
    natural_key,
    note_once,
    quaternion_pose,
    read_rows,
)

FORMAT = '7scenes'
LOOKED_FOR = 'TrainSplit.txt and TestSplit.txt (7-Scenes), or <scene>_train.txt and <scene>_test.txt (its SfM poses)'
# Nominal focal length of the Kinect's colour camera, which the dataset leaves to its users, and the size it is of.
COLOR_FOCAL = 525.0
COLOR_SIZE = 640, 480
COLOR_FOCALS = 400.0, 700.0   # that structure from motion may find at this size


def recognises(path: Path) -> bool:
    return (path / 'TrainSplit.txt').is_file() or (path / 'TestSplit.txt').is_file() or bool(_pseudo_truth(path))


def read(path: Path) -> Capture:
    seen = {}
    listings = _pseudo_truth(path)
    if listings:
        train, test = (_read_pseudo_truth(path, listing, seen) for listing in listings)
        form = '7scenes-sfm'
    else:
        listings = path / 'TrainSplit.txt', path / 'TestSplit.txt'
        train, test = (_read_sequences(path, listing, seen) for listing in listings)
        form = FORMAT
    notes = unposed(frame.image_path for frame in train + test)
    capture = Capture(path.name, form, path, train, test, notes=notes)
    return checked_capture(capture, listings[0] if not train else listings[1])


def _pseudo_truth(path: Path) -> tuple[Path, Path] | None:
    for folder in (path, path / 'pgt'):
        found = [file for file in visible(folder, '*_train.txt') if file.name != 'dataset_train.txt']
        if len(found) > 1:
            raise AprlocError(f'{folder}: {len(found)} files *_train.txt ({found[0].name}, {found[1].name}, ...); '
                              f'keep those of one scene')
        if found:
            return found[0], found[0].with_name(found[0].name.replace('_train.txt', '_test.txt'))
    return None


def _read_sequences(root: Path, listing: Path, seen: dict) -> tuple[Frame, ...]:
    frames = []
    for where, words in read_rows(listing):
        match = re.fullmatch(r'sequence(\d+)', words[0])
        if len(words) != 1 or not match:
            raise AprlocError(f'{where}: {" ".join(words)[:40]!r} where a line such as "sequence1" belongs')
        sequence = f'seq-{int(match[1]):02d}'
        note_once(seen, sequence, where)
        poses = sorted((root / sequence).glob('frame-*.pose.txt'))
        if not poses:
            raise AprlocError(f'{where}: {root / sequence} holds no frame-*.pose.txt; unpack {sequence}.zip')
        for pose_path in poses:
            name = f'{sequence}/{pose_path.name.replace(".pose.txt", ".color.png")}'
            image_path = check_image(root / name, f'{pose_path}:1')
            frames.append(_frame(name, image_path, _read_matrix(pose_path), COLOR_FOCAL))
    return tuple(frames)


def _read_matrix(path: Path) -> torch.Tensor:
    """4x4 camera-to-world of a pose file."""
    rows = read_rows(path)
    for where, words in rows:
        expect_count(words, 4, 'a row of a 4x4 matrix', where)
    expect_count(rows, 4, 'rows of a 4x4 matrix', f'{path}:{len(rows)}')
    matrix = torch.tensor([floats(words, where) for where, words in rows], dtype=torch.float64)
    return check_pose(matrix, f'{path}:1')


def _read_pseudo_truth(root: Path, listing: Path, seen: dict) -> tuple[Frame, ...]:
    frames = []
    for where, words in read_rows(listing):
        expect_count(words, 9, 'image qw qx qy qz tx ty tz focal', where)
        name, values = tidy(words[0]), floats(words[1:], where)
        note_once(seen, name, where)
        T_map_cam = invert(quaternion_pose(values[:4], values[4:7], where))
        image_path = check_image(locate(root, words[0]), where)
        if not 0 < values[7] < float('inf'):
            raise AprlocError(f'{where}: focal length {words[8]} must be a positive number of pixels')
        frames.append(_frame(name, image_path, T_map_cam, values[7]))
    return tuple(sorted(frames, key=lambda frame: natural_key(frame.name)))


def _frame(name: str, image_path: Path, T_map_cam: torch.Tensor, focal: float) -> Frame:
    """The camera is the pinhole at the image's centre; a focal length of the Kinect's is of its size."""
    is_kinect = name.endswith('.color.png') and COLOR_FOCALS[0] < focal < COLOR_FOCALS[1]
    width, height = COLOR_SIZE if is_kinect else image_size(image_path)
    camera = Camera(width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5)
    registered = image_path.with_name(image_path.name.replace('.color.png', '.depth.proj.png'))
    depth_path = registered if registered != image_path and registered.is_file() else None
    return Frame(name, image_path, T_map_cam, camera, sequence=name.split('/')[0], depth_path=depth_path)
