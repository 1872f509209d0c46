"""The files of a COLMAP sparse model, text or binary (https://colmap.github.io/format.html)."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.training.datasets.files import tidy
from aprloc_ros.training.datasets.intrinsics import PARAMETERS, make_camera, parameter_names
from aprloc_ros.training.datasets.parsing import expect_count, floats, quaternion_pose, read_rows, read_text

NO_POINT = -1


@dataclass(frozen=True)
class Image:
    name: str
    T_map_cam: Tensor
    camera: Camera
    point_ids: np.ndarray    # [O] int64 ids of the observed points
    pixels: np.ndarray       # [O, 2] where; the top-left pixel's centre is (0, 0)
    where: str


def model_form(folder: Path) -> str:
    """The suffix of the model's files; empty where there is none."""
    complete = (form for form in ('bin', 'txt')
                if (folder / f'images.{form}').is_file() and (folder / f'cameras.{form}').is_file())
    return next(complete, '')


def has_both_forms(folder: Path) -> bool:
    return all((folder / f'{name}.{form}').is_file() for name in ('images', 'cameras') for form in ('bin', 'txt'))


def count_images(model: Path) -> int:
    """As the file says, unread."""
    if model_form(model) == 'bin':
        return _Binary(model / 'images.bin').take('Q')[0]
    return (len(_image_lines(model / 'images.txt')) + 1) // 2


def read_images(folder: Path, form: str) -> list[Image]:
    """In the order of the file. AprlocError with file and line (or byte) for what is damaged."""
    if form == 'bin':
        return _binary_images(folder / 'images.bin', _binary_cameras(folder / 'cameras.bin'))
    return _text_images(folder / 'images.txt', _text_cameras(folder / 'cameras.txt'))


def read_points(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """ids [P], xyz [P, 3]."""
    return _binary_points(file) if file.suffix == '.bin' else _text_points(file)


def _image(name: str, values: list[float], camera_id: int, cameras: dict, point_ids: np.ndarray, pixels: np.ndarray,
           where: str) -> Image:
    """values: qw qx qy qz tx ty tz, world-to-camera; pixels: in COLMAP's way of counting them."""
    if camera_id not in cameras:
        raise AprlocError(f'{where}: camera {camera_id} is not in the cameras file')
    T_map_cam = invert(quaternion_pose(values[:4], values[4:7], where))
    seen = point_ids != NO_POINT
    return Image(tidy(name), T_map_cam, cameras[camera_id], point_ids[seen], pixels[seen] - 0.5, where)


def _camera(model: str, width: int, height: int, parameters: list[float], where: str) -> Camera:
    names = parameter_names(model, where)
    expect_count(parameters, len(names), ' '.join(names), where)
    return make_camera(model, width, height, dict(zip(names, parameters)), where)


def _integer(word: str, where: str) -> int:
    if re.fullmatch(r'-?\d{1,18}', word) is None:
        raise AprlocError(f'{where}: {word!r} where a whole number belongs')
    return int(word)


def _text_cameras(path: Path) -> dict[int, Camera]:
    cameras = {}
    for where, words in read_rows(path):
        if len(words) < 5:
            expect_count(words, 5, 'at least id model width height and parameters', where)
        width, height = _integer(words[2], where), _integer(words[3], where)
        cameras[_integer(words[0], where)] = _camera(words[1], width, height, floats(words[4:], where), where)
    return cameras


def _image_lines(path: Path) -> list[tuple[str, str]]:
    """('file:line', line): two lines an image, of which the second, its observations, may be empty."""
    lines = [(f'{path}:{number}', line) for number, line in enumerate(read_text(path).splitlines(), 1)
             if not line.startswith('#')]
    while lines and not lines[0][1].strip():
        lines.pop(0)
    return lines


def _text_images(path: Path, cameras: dict[int, Camera]) -> list[Image]:
    lines, images = _image_lines(path), []
    for index in range(0, len(lines), 2):
        where, line = lines[index]
        words = line.split(maxsplit=9)
        if not words and index == len(lines) - 1:
            break
        expect_count(words, 10, 'id qw qx qy qz tx ty tz camera name', where)
        if index + 1 == len(lines):
            raise AprlocError(f'{where}: the line of observations is missing; is the file truncated?')
        where_2d, observations = lines[index + 1][0], lines[index + 1][1].split()
        if len(observations) % 3:
            raise AprlocError(f'{where_2d}: {len(observations)} values, not triples x y point; is the file truncated?')
        point_ids = np.array([_integer(word, where_2d) for word in observations[2::3]], dtype=np.int64)
        pixels = np.array([floats(observations[axis::3], where_2d) for axis in (0, 1)], dtype=np.float64).T
        camera_id = _integer(words[8], where)
        images.append(_image(words[9].strip(), floats(words[1:8], where), camera_id, cameras, point_ids, pixels, where))
    return images


def _text_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """ids [P], xyz [P, 3]."""
    ids, xyz = [], []
    for where, words in read_rows(path):
        if len(words) < 8 or len(words) % 2:
            raise AprlocError(f'{where}: {len(words)} values, not id x y z r g b error and pairs; '
                              f'is the file truncated?')
        ids.append(_integer(words[0], where))
        xyz.append(floats(words[1:4], where))
    return np.array(ids, dtype=np.int64), np.array(xyz, dtype=np.float64).reshape(-1, 3)


class _Binary:
    """Reads a little-endian binary file from front to back."""

    def __init__(self, path: Path):
        self.path, self.offset = path, 0
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise AprlocError(f'{path}: cannot be read ({error.strerror})') from None

    def take(self, form: str) -> tuple:
        return struct.unpack_from('<' + form, self.data, self._advance(struct.calcsize('<' + form)))

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        return np.frombuffer(self.data, dtype, count, self._advance(dtype.itemsize * count)) if count else \
            np.empty(0, dtype)

    def text(self) -> str:
        end = self.data.find(b'\0', self.offset)
        start = self._advance(end + 1 - self.offset if end >= 0 else len(self.data))
        return self.data[start:end].decode('utf-8', 'replace')

    def _advance(self, size: int) -> int:
        start, self.offset = self.offset, self.offset + size
        if self.offset > len(self.data):
            raise AprlocError(f'{self.path}: truncated: {len(self.data)} bytes, but the record at byte {start} '
                              f'needs {size}')
        return start


def _binary_cameras(path: Path) -> dict[int, Camera]:
    file, cameras = _Binary(path), {}
    models = list(PARAMETERS)
    for _ in range(*file.take('Q')):
        camera_id, model, width, height = file.take('IiQQ')
        where = f'{path}: camera {camera_id}'
        name = models[model] if 0 <= model < len(models) else f'number {model}'
        parameters = file.array(np.dtype('<f8'), len(parameter_names(name, where))).tolist()
        cameras[camera_id] = _camera(name, width, height, parameters, where)
    return cameras


def _binary_images(path: Path, cameras: dict[int, Camera]) -> list[Image]:
    file, images = _Binary(path), []
    observation = np.dtype([('x', '<f8'), ('y', '<f8'), ('point', '<i8')])
    for _ in range(*file.take('Q')):
        image_id, *values, camera_id = file.take('I7dI')
        name = file.text()
        seen = file.array(observation, *file.take('Q'))
        pixels = np.stack([seen['x'], seen['y']], -1)
        images.append(_image(name, values, camera_id, cameras, seen['point'].astype(np.int64), pixels,
                             f'{path}: image {image_id} ({name})'))
    return images


def _binary_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """ids [P], xyz [P, 3]."""
    file, ids, xyz = _Binary(path), [], []
    for _ in range(*file.take('Q')):
        point_id, x, y, z, *_, views = file.take('q3d3BdQ')
        file.array(np.dtype('<u8'), views)
        ids.append(point_id)
        xyz.append((x, y, z))
    return np.array(ids, dtype=np.int64), np.array(xyz, dtype=np.float64).reshape(-1, 3)
