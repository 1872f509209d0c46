"""Cambridge Landmarks (Kendall et al., ICCV 2015): dataset_train.txt, dataset_test.txt and reconstruction.nvm.

A line is `image X Y Z W P Q R`: the camera's centre, and the world-to-camera rotation as a quaternion w x y z.
"""

from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.files import image_size, locate, tidy, unposed
from aprloc_ros.training.datasets.formats.nvm import Nvm, read_nvm
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
from aprloc_ros.training.datasets.points import training_points
from aprloc_ros.training.datasets.sizes import has_aspect

FORMAT = 'cambridge'
LOOKED_FOR = 'dataset_train.txt and dataset_test.txt (Cambridge Landmarks)'
HEADER_LINES = 3
ORIGINAL_SIZE = 1920, 1080   # of Cambridge Landmarks' videos, which people scale down


def recognises(path: Path) -> bool:
    return (path / 'dataset_train.txt').is_file() or (path / 'dataset_test.txt').is_file()


def read(path: Path) -> Capture:
    if not (path / 'reconstruction.nvm').is_file():
        raise AprlocError(f'{path / "reconstruction.nvm"} is missing: the focal lengths come from it; '
                          f'it is part of the archive of the scene')
    nvm = read_nvm(path / 'reconstruction.nvm')
    seen = {}
    train, test = (_read_split(path, path / f'dataset_{split}.txt', nvm, seen) for split in ('train', 'test'))
    notes = unposed(frame.image_path for frame in train + test)
    capture = Capture(path.name, FORMAT, path, train, test, _points(nvm, train), notes)
    return checked_capture(capture, path / ('dataset_train.txt' if not train else 'dataset_test.txt'))


def _read_split(root: Path, listing: Path, nvm: Nvm, seen: dict) -> tuple[Frame, ...]:
    """seen: frames already listed, shared between the splits."""
    index_of = {stem: index for index, stem in enumerate(_stems(nvm.names))}
    frames = []
    for where, words in read_rows(listing):
        if len(words) != 8 and int(where.rpartition(':')[2]) <= HEADER_LINES:
            continue
        expect_count(words, 8, 'image X Y Z W P Q R', where)
        name = tidy(words[0])
        note_once(seen, name, where)
        values = floats(words[1:], where)
        # The quaternion turns the world into the camera, but the position is the centre: -R^T t.
        R_cam_map = quaternion_pose(values[3:], [0, 0, 0], where)[:3, :3]
        T_map_cam = pose(R_cam_map.T, torch.tensor(values[:3], dtype=torch.float64))
        if not torch.isfinite(T_map_cam).all():
            raise AprlocError(f'{where}: the pose holds NaN or infinity; remove the frame or mend its pose')
        image_path = check_image(locate(root, words[0]), where)
        focal, radial = _intrinsics(nvm, index_of.get(_stem(name)))
        camera = _camera(*_measured_size(nvm, image_path), focal, radial)
        frames.append(Frame(name, image_path, T_map_cam, camera, sequence=Path(name).parent.as_posix()))
    return tuple(sorted(frames, key=lambda frame: natural_key(frame.name)))


def _intrinsics(nvm: Nvm, index: int | None) -> tuple[float, float]:
    """Focal length and distortion; the medians for the few images that are not in the reconstruction."""
    if index is not None:
        return nvm.focal[index], nvm.radial[index]
    return float(np.median(nvm.focal)), float(np.median(nvm.radial))


def _camera(width: int, height: int, focal: float, radial: float) -> Camera:
    """VisualSFM undistorts a measurement m by (1 + r |m|^2) m; OpenCV distorts. The inverse series, to third order:
    k1 = -r, k2 = 3 r^2, k3 = -12 r^3.
    """
    size = width, height, float(focal), float(focal), width / 2 - 0.5, height / 2 - 0.5
    if radial == 0:
        return Camera(*size)
    return Camera(*size, 'opencv', (float(-radial), float(3 * radial ** 2), 0.0, 0.0, float(-12 * radial ** 3)))


def _measured_size(nvm: Nvm, image_path: Path) -> tuple[int, int]:
    """Of the images that the focal lengths are of: measurements outside an image betray a scaled copy."""
    size = image_size(image_path)
    if not _reaches_beyond(nvm, size):
        return size
    if has_aspect(size, ORIGINAL_SIZE) and not _reaches_beyond(nvm, ORIGINAL_SIZE):
        return ORIGINAL_SIZE
    raise AprlocError(f'{image_path}: {size[0]}x{size[1]} pixels, but the reconstruction measured up to '
                      f'{nvm.reach[0]:.0f}, {nvm.reach[1]:.0f} from the centre; use the original images')


def _reaches_beyond(nvm: Nvm, size: tuple[int, int]) -> bool:
    return bool((nvm.reach > np.array(size) / 2 + 1).any())


def _stem(name: str) -> tuple[str, ...]:
    """What tells an image in lists of tools that convert it, or name it by a folder of another machine."""
    parts = PurePosixPath(name).with_suffix('').parts
    return parts[-2:] if parts[:1] == ('/',) or PureWindowsPath(name).drive else parts


def _stems(names: list[str]) -> list[tuple[str, ...]]:
    return [_stem(tidy(name)) for name in names]


def _points(nvm: Nvm, train: tuple[Frame, ...]):
    """The reconstruction's points, if it is in the frame of the listed poses (else None: they must be made anew)."""
    by_stem = {_stem(frame.name): frame for frame in train}
    names = [by_stem[stem].name if stem in by_stem else '' for stem in _stems(nvm.names)]
    pairs = [(nvm.centres[index], by_stem[_stem(name)].T_map_cam[:3, 3].numpy())
             for index, name in enumerate(names) if name]
    if not pairs:
        return None
    centres, positions = (np.array(column) for column in zip(*pairs))
    extent = np.linalg.norm(positions - positions.mean(0), axis=-1).max()
    if np.median(np.linalg.norm(centres - positions, axis=-1)) > 1e-3 * extent:
        return None
    return training_points(nvm.xyz, nvm.image_of, nvm.point_of, names, train)
