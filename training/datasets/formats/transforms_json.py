"""transforms.json of instant-ngp and nerfstudio: camera-to-world matrices with OpenGL axes (x right, y up, z back).

Intrinsics stand once for the capture or in each frame: fl_x fl_y cx cy w h k1 k2 k3 k4 p1 p2, `camera_model` by
COLMAP's or nerfstudio's names; instant-ngp's `camera_angle_x` and `is_fisheye` are understood. A split by
train_filenames, test_filenames and val_filenames is kept: val is the test split where there is no other, and unused
otherwise.
"""

import json
import math
import re
from pathlib import Path

import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import GL_FROM_CV, check_pose
from aprloc_ros.training.datasets.capture import Capture, Frame, Mask
from aprloc_ros.training.datasets.files import image_size, locate, tidy, unposed
from aprloc_ros.training.datasets.intrinsics import make_camera
from aprloc_ros.training.datasets.parsing import (
    check_image,
    checked_capture,
    natural_key,
    note_once,
    read_text,
)
from aprloc_ros.training.datasets.splits import held_out, left_out

FORMAT = 'transforms'
LOOKED_FOR = 'transforms.json (instant-ngp, nerfstudio)'
SPLIT_FILE = 'transforms_train.json'   # of NeRF's synthetic scenes
COEFFICIENTS = ('k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'p1', 'p2')
NUMBERS = ('fl_x', 'fl_y', 'cx', 'cy', 'w', 'h', *COEFFICIENTS, 'camera_angle_x', 'camera_angle_y',
           'depth_unit_scale_factor', 'timestamp')
LARGEST = 1e30
# camera_model of nerfstudio and COLMAP -> COLMAP's model with all coefficients that the file may give.
PINHOLES = ('PERSPECTIVE', 'SIMPLE_PINHOLE', 'PINHOLE', 'SIMPLE_RADIAL', 'RADIAL', 'OPENCV', 'FULL_OPENCV')
FISHEYES = ('FISHEYE', 'OPENCV_FISHEYE', 'SIMPLE_RADIAL_FISHEYE', 'RADIAL_FISHEYE')
MODELS = {**dict.fromkeys(PINHOLES, 'FULL_OPENCV'), **dict.fromkeys(FISHEYES, 'OPENCV_FISHEYE')}
# instant-ngp's keys of lenses that no camera here has.
FOREIGN = (*(f'ftheta_p{order}' for order in range(5)), 'latlong', 'equirectangular', 'orthographic')


def recognises(path: Path) -> bool:
    return path.name == 'transforms.json' or any((path / name).is_file() for name in ('transforms.json', SPLIT_FILE))


def read(path: Path) -> Capture:
    file = path if path.name == 'transforms.json' else path / 'transforms.json'
    if not file.is_file() and (path / SPLIT_FILE).is_file():
        raise AprlocError(f'{path / SPLIT_FILE}: a file for each split is not read; put the frames of all into {file}, with their '
                          f'paths in "train_filenames" and "test_filenames"')
    text = read_text(file)
    meta = _parse(text, file)
    places = _places(text, file, len(meta['frames']))
    shared = {key: value for key, value in meta.items() if key != 'frames'}
    frames, seen = {}, {}
    for entry, where in zip(meta['frames'], places):
        frame = _frame({**shared, **entry} if isinstance(entry, dict) else None, file.parent, where)
        note_once(seen, frame.name, where)
        frames[frame.name] = frame
    train, test = _split(meta, frames, text, file)
    posed = tuple(frames.values())
    notes = (*unposed((frame.image_path for frame in posed), (frame.depth_path for frame in posed)),
             *left_out(posed, train, test))
    return checked_capture(Capture(file.parent.name, FORMAT, file.parent, train, test, notes=notes), file)


def _parse(text: str, file: Path) -> dict:
    try:
        meta = json.loads(text)
    except json.JSONDecodeError as error:
        raise AprlocError(f'{file}:{error.lineno}: not JSON ({error.msg}); is the file truncated?') from None
    if not isinstance(meta, dict) or not isinstance(meta.get('frames'), list) or not meta['frames']:
        raise AprlocError(f'{file}:1: "frames" is missing or empty; it must be a list of frames')
    return meta


def _places(text: str, file: Path, count: int) -> list[str]:
    """'file:line' of each frame's file_path; 'file, frame N' where the text does not tell."""
    lines, offset, number = [], 0, 1
    for match in re.finditer(r'"file_path"\s*:', text):
        number += text.count('\n', offset, match.start())
        offset = match.start()
        lines.append(f'{file}:{number}')
    return lines if len(lines) == count else [f'{file}, frame {index}' for index in range(count)]


def _frame(entry: dict | None, root: Path, where: str) -> Frame:
    """entry: the frame's own keys over those of the capture."""
    if entry is None or not isinstance(entry.get('file_path'), str):
        raise AprlocError(f'{where}: a frame needs "file_path", the path of its image')
    for key in NUMBERS:
        value = entry.get(key, 0)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < LARGEST:
            raise AprlocError(f'{where}: "{key}" is {str(value)[:40]!r}, not a finite number')
    name = tidy(entry['file_path'])
    image_path = check_image(locate(root, entry['file_path']), where)
    depth_path, mask_path = entry.get('depth_file_path'), entry.get('mask_path')
    return Frame(
        name, image_path, _pose(entry.get('transform_matrix'), where), _camera(entry, image_path, where),
        stamp_s=float(entry['timestamp']) if 'timestamp' in entry else None,
        sequence=Path(name).parent.as_posix(),
        depth_path=check_image(locate(root, depth_path), where) if depth_path else None,
        depth_unit_m=float(entry.get('depth_unit_scale_factor', 0.001)),
        mask=Mask(check_image(locate(root, mask_path), where), 'black') if mask_path else None)


def _pose(matrix, where: str) -> torch.Tensor:
    """transform_matrix, 4x4 or 3x4 -> T_map_cam."""
    try:
        T_map_gl = torch.tensor(matrix, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise AprlocError(f'{where}: "transform_matrix" is missing or not a 4x4 matrix of numbers') from None
    if T_map_gl.shape == (3, 4):
        T_map_gl = torch.cat([T_map_gl, torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)])
    return check_pose(T_map_gl, where) @ GL_FROM_CV


def _camera(entry: dict, image_path: Path, where: str) -> Camera:
    width, height = (int(entry['w']), int(entry['h'])) if 'w' in entry and 'h' in entry else image_size(image_path)
    fx = entry.get('fl_x') or _focal(entry, 'camera_angle_x', width, where)
    fy = entry.get('fl_y') or _focal(entry, 'camera_angle_y', height, where) or fx
    if fx is None:
        raise AprlocError(f'{where}: no focal length: "fl_x" (pixels) or "camera_angle_x" (radians) must be given')
    model = _model(entry, where)
    values = {key: float(entry.get(key, 0)) for key in COEFFICIENTS}
    centre = {'cx': float(entry.get('cx', width / 2)), 'cy': float(entry.get('cy', height / 2))}
    return make_camera(model, width, height, {'fx': float(fx), 'fy': float(fy), **centre, **values}, where)


def _model(entry: dict, where: str) -> str:
    """COLMAP's name of the model, with as many coefficients as there may be. AprlocError for any other lens."""
    for key in FOREIGN:
        if entry.get(key) is not None and entry[key] is not False:   # ftheta_p0 is 0 as a rule
            raise AprlocError(f'{where}: "{key}" is a lens that is not understood; undistort the images to a pinhole '
                              f'or to OPENCV_FISHEYE')
    is_fisheye, name = bool(entry.get('is_fisheye')), entry.get('camera_model', entry.get('camera_type'))
    if name is None:
        name = 'OPENCV_FISHEYE' if is_fisheye else 'OPENCV'
    if not isinstance(name, str) or name.upper() not in MODELS:
        raise AprlocError(f'{where}: "camera_model" is {str(name)[:40]!r}, which is not one of {", ".join(MODELS)}; '
                          f'undistort the images')
    model = MODELS[name.upper()]
    if is_fisheye and model != 'OPENCV_FISHEYE':
        raise AprlocError(f'{where}: "is_fisheye" contradicts "camera_model": {name}; remove the one that is wrong')
    if name.upper() == 'FULL_OPENCV':
        return model
    for key in ('k5', 'k6', 'p1', 'p2') if model == 'OPENCV_FISHEYE' else ('k4', 'k5', 'k6'):
        if entry.get(key):
            raise AprlocError(f'{where}: {key} = {entry[key]} with model {name}, which has none (k4 is of fisheye '
                              f'models and FULL_OPENCV); undistort the images')
    return model


def _focal(entry: dict, key: str, pixels: int, where: str) -> float | None:
    angle = entry.get(key)
    if not angle:
        return None
    if not 0 < angle < math.pi:
        raise AprlocError(f'{where}: "{key}" is {angle:.6g}; it must be in radians, between 0 and pi (a view of {angle:.6g} degrees would '
                          f'be {math.radians(angle):.4g})')
    return 0.5 * pixels / math.tan(0.5 * angle)


def _split(meta: dict, frames: dict[str, Frame], text: str, file: Path):
    """(train, test), frames of each in the order of capture."""
    has_test = meta.get('test_filenames') or 'test_filenames' in meta and not meta.get('val_filenames')
    test_key = 'test_filenames' if has_test else 'val_filenames'
    if 'train_filenames' not in meta and test_key not in meta:
        return held_out(_in_order(frames.values()), str(file))
    splits = []
    seen = {}
    for key in ('train_filenames', test_key):
        names = meta.get(key)
        where = f'{file}:{_line(text, key)}'
        if not isinstance(names, list) or not names:
            raise AprlocError(f'{where}: "{key}" is missing or empty, so that split is empty; list its file paths, '
                              f'or remove all splits and blocks are held out')
        split = []
        for name in map(tidy, map(str, names)):
            note_once(seen, name, f'{where} ({key})')
            if name not in frames:
                raise AprlocError(f'{where}: "{key}" names {name}, which is not among the frames')
            split.append(frames[name])
        splits.append(_in_order(split))
    return tuple(splits)


def _in_order(frames) -> tuple[Frame, ...]:
    def key(frame: Frame):
        return frame.sequence, frame.stamp_s is None, frame.stamp_s or 0.0, natural_key(frame.name)
    return tuple(sorted(frames, key=key))


def _line(text: str, key: str) -> int:
    return text.count('\n', 0, max(0, text.find(f'"{key}"'))) + 1
