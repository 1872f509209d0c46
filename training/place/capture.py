"""Writes drives through the demo place as a capture: transforms.json (nerfstudio), photographs and exact depth."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import GL_FROM_CV
from aprloc_ros.training.place.court import build_court
from aprloc_ros.training.place.days import TODAY, Day
from aprloc_ros.training.place.drive import COURSES, Course, plan_drive
from aprloc_ros.training.place.raycast import Renderer
from aprloc_ros.training.place.sensor import develop

CAMERA = Camera(320, 240, 252.0, 252.0, 160.7, 118.4)
DEPTH_UNIT_M = 0.001
_THREADS = 2


def write_capture(directory: str | Path, seed: int = 0, progress: Callable[[int, int], None] | None = None,
                  courses: Sequence[Course] = COURSES, day: Day = TODAY, height: int = CAMERA.height):
    """The demo place as a capture: by default both training drives and the held-out one, today.

    height: of the images, which the same camera takes in more or fewer pixels; progress: called with (frames done, frames in
    all). AprlocError where the directory cannot be written.
    """
    directory, camera = Path(directory), CAMERA.with_short_side(height)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / 'transforms.json').unlink(missing_ok=True)   # comes back last: half a capture is none
    except OSError as error:
        raise AprlocError(f'{directory}: cannot write the demo place there ({error.strerror})') from None
    renderer = Renderer(build_court(seed, day=day))
    entries, total = [], sum(course.frames for course in courses)
    for course in courses:
        for entry in _write_frames(directory, renderer, course, seed, camera):
            entries.append((course.split, entry))
            if progress:
                progress(len(entries), total)
    (directory / 'transforms.json').write_text(json.dumps(_transforms(entries, camera), indent=1) + '\n')


def photograph(renderer: Renderer, course: Course, seed: int = 0, camera: Camera = CAMERA, count: int | None = None):
    """The first `count` frames of a course (default: all), in order: yields (image [H, W, 3] uint8, depth [H, W]
    float32 m with 0 for unknown, T_map_cam [4, 4], stamp_s)."""
    drive = plan_drive(course, seed)
    frames = range(count or course.frames)
    depths = []

    def view(frame):
        return renderer.render(camera, drive.T_map_cam[frame], drive.actors(frame))

    def radiance(views):
        for colour, depth in views:
            depths.append(depth)
            yield colour

    with ThreadPoolExecutor(_THREADS) as threads:
        images = develop(radiance(threads.map(view, frames)), course.sensor, 1 / course.rate_hz,
                         np.random.default_rng([seed, 11, course.number]))
        for frame, image in zip(frames, images):
            yield image, depths.pop(0), drive.T_map_cam[frame], float(drive.stamps_s[frame])


def _write_frames(directory: Path, renderer: Renderer, course: Course, seed: int, camera: Camera):
    """Write a course's files and yield its entries of transforms.json."""
    folders = Path('images', course.name), Path('depth', course.name)
    for folder in folders:
        (directory / folder).mkdir(parents=True, exist_ok=True)
    for i, (image, depth, T_map_cam, stamp_s) in enumerate(photograph(renderer, course, seed, camera)):
        image_path, depth_path = folders[0] / f'{i:04d}.jpg', folders[1] / f'{i:04d}.png'
        units = np.round(depth / DEPTH_UNIT_M)
        _write_image(directory / image_path, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        _write_image(directory / depth_path, np.where(units < 65536, units, 0).astype(np.uint16))
        yield {'file_path': image_path.as_posix(), 'depth_file_path': depth_path.as_posix(), 'timestamp': stamp_s,
               'transform_matrix': (T_map_cam @ GL_FROM_CV.numpy()).tolist()}


def _write_image(path: Path, image: np.ndarray, parameters=()):
    if not cv2.imwrite(str(path), image, parameters):
        raise AprlocError(f'{path}: cannot be written; is the disk full?')


def _transforms(entries, camera: Camera) -> dict:
    """The content of transforms.json; nerfstudio puts the centre of the top-left pixel at (0.5, 0.5)."""
    intrinsics = {'fl_x': camera.fx, 'fl_y': camera.fy, 'cx': camera.cx + 0.5, 'cy': camera.cy + 0.5}
    names = {f'{split}_filenames': [e['file_path'] for s, e in entries if s == split] for split in ('train', 'test')}
    return {'camera_model': 'OPENCV', 'w': camera.width, 'h': camera.height, **intrinsics,
            'k1': 0.0, 'k2': 0.0, 'p1': 0.0, 'p2': 0.0, 'depth_unit_scale_factor': DEPTH_UNIT_M,
            **(names if all(names.values()) else {}), 'frames': [entry for _, entry in entries]}
