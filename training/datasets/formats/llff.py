"""LLFF's poses_bounds.npy (Mildenhall et al., SIGGRAPH 2019) beside a folder `images`.

A row is 17 numbers: a 3x5 matrix [R | t | height, width, focal], camera-to-world with the axes (x down, y right,
z back), then the near and far bound of the depth. Rows are in the order of the sorted image names.
"""

from pathlib import Path

import numpy as np
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import LLFF_FROM_CV, check_pose, pose
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.files import SMALLER_COPIES, image_files
from aprloc_ros.training.datasets.parsing import check_image, checked_camera, checked_capture
from aprloc_ros.training.datasets.splits import held_out, left_out

FORMAT = 'llff'
LOOKED_FOR = 'poses_bounds.npy (LLFF)'


def recognises(path: Path) -> bool:
    return (path / 'poses_bounds.npy').is_file()


def read(path: Path) -> Capture:
    file = path / 'poses_bounds.npy'
    table = _load(file)
    folder = next((path / name for name in ('images', *SMALLER_COPIES) if image_files(path / name)), path / 'images')
    images = image_files(folder)
    if len(images) != len(table):
        raise AprlocError(f'{file}: {len(table)} rows but {len(images)} images in {folder}; '
                          f'there must be one row an image')
    frames = tuple(_frame(image, row, f'{file}, row {number}')
                   for number, (image, row) in enumerate(zip(images, table), 1))
    train, test = held_out(frames, str(file))
    return checked_capture(Capture(path.name, FORMAT, path, train, test, notes=left_out(frames, train, test)), file)


def _load(file: Path) -> np.ndarray:
    """[N, 17] float64."""
    try:
        table = np.load(file, allow_pickle=False)
    except Exception as error:   # noqa: BLE001  NumPy lets through whatever a damaged header makes of its parsers
        raise AprlocError(f'{file}: not a readable NumPy array ({(str(error).splitlines() or [type(error).__name__])[0]})') from None
    if table.ndim != 2 or table.shape[1] != 17 or table.dtype.kind != 'f':
        raise AprlocError(f'{file}: an array {table.shape} of {table.dtype}, not [N, 17] of floats')
    return table.astype(np.float64)


def _frame(image: Path, row: np.ndarray, where: str) -> Frame:
    matrix = torch.from_numpy(row[:15].reshape(3, 5).copy())
    T_map_cam = check_pose(pose(matrix[:, :3], matrix[:, 3]) @ LLFF_FROM_CV, where)
    return Frame(image.name, check_image(image, where), T_map_cam, _camera(matrix[:, 4].tolist(), where))


def _camera(hwf: list[float], where: str) -> Camera:
    """The camera of the images that the focal length is of; those that are there may be smaller copies."""
    height, width, focal = hwf
    if not np.isfinite(hwf).all() or min(hwf) <= 0:
        raise AprlocError(f'{where}: height, width and focal length {hwf} must be finite and positive')
    return checked_camera(where, round(width), round(height), focal, focal, width / 2 - 0.5, height / 2 - 0.5)
