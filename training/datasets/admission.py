"""What every capture must be to be used, whatever its format; looked at once, before anything is built."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.bit_depth import used_bits
from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.choice import Choice
from aprloc_ros.training.datasets.mask_files import with_masks
from aprloc_ros.training.datasets.sizes import fitted, shapes

_SHORTEST, _LONGEST = 0.1, 100.0   # focal length by the image's side: views of 157 and of 0.6 degrees
_PIXEL_ASPECT = 2.0
_OF_16_BITS = ('.tif', '.tiff', '.pgm', '.ppm')   # formats that may have them, beside PNG


def admitted(capture: Capture, choice: Choice) -> Capture:
    """The capture with cameras of its images' sizes, its masks, and notes of what is not as written.

    Raises AprlocError for impossible intrinsics, images of another aspect than their camera, and doubtful masks.
    """
    frames = (*capture.train, *capture.test)
    for camera, frame in {frame.camera: frame for frame in reversed(frames)}.items():
        check_intrinsics(camera, f'{frame.image_path}: its camera')
    frames, scaled = fitted(frames)
    count = len(capture.train)
    frames, bits = with_sample_bits(frames[:count], frames[count:])
    root = capture.root if capture.root.is_dir() else capture.root.parent
    frames, masked = with_masks(frames, root, choice.masks_hide)
    notes = (*capture.notes, *scaled, *shapes(frames), *bits, *masked)
    return replace(capture, train=frames[:count], test=frames[count:], notes=notes)


def check_intrinsics(camera: Camera, where: str):
    """AprlocError for what no camera has: they are of another image, or in another unit."""
    size = f'{camera.width}x{camera.height}'
    if not (0 <= camera.cx <= camera.width - 1 and 0 <= camera.cy <= camera.height - 1):
        raise AprlocError(f'{where} has its principal point at {camera.cx:.6g}, {camera.cy:.6g}, outside the {size} '
                          f'image; are the intrinsics of a larger image? give its width and height with them')
    if max(camera.cx, camera.cy) <= 1 < min(camera.width, camera.height) / 8:
        raise AprlocError(f'{where} has its principal point at {camera.cx:.6g}, {camera.cy:.6g} of {size}; it must be '
                          f'in pixels, not a share of the image')
    for name, focal, side in (('fx', camera.fx, camera.width), ('fy', camera.fy, camera.height)):
        if not _SHORTEST <= focal / side <= _LONGEST:
            raise AprlocError(f'{where} has {name} = {focal:.6g} for {side} pixels; it must be {_SHORTEST * side:.6g} '
                              f'to {_LONGEST * side:.6g} pixels (not millimetres, nor a share of the image)')
    if not 1 / _PIXEL_ASPECT <= camera.fx / camera.fy <= _PIXEL_ASPECT:
        raise AprlocError(f'{where} has fx = {camera.fx:.6g} and fy = {camera.fy:.6g}; their ratio must be '
                          f'{1 / _PIXEL_ASPECT} to {_PIXEL_ASPECT}; are width and height exchanged?')


def with_sample_bits(train: tuple[Frame, ...], test: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """All frames with the bits that 16-bit files use, one number told by those of training, and what to say of it."""
    deep = [frame.image_path for frame in train if _has_16_bits(frame.image_path)]
    if not deep:
        return (*train, *test), ()
    largest = max(int(_samples(path).max()) for path in deep)
    bits = used_bits(largest)
    said = f'16-bit images: the largest value is {largest}, so {bits} bits are used and scaled to 8'
    return tuple(replace(frame, sample_bits=bits) for frame in (*train, *test)), (said,)


def _has_16_bits(path: Path) -> bool:
    """By the header of a PNG (PNG specification, section 11.2.2); of other formats by what is decoded."""
    if path.suffix.lower() in _OF_16_BITS:
        return _samples(path).dtype == np.uint16
    with path.open('rb') as file:
        start = file.read(25)
    return start.startswith(b'\x89PNG') and start[24:] == b'\x10'


def _samples(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise AprlocError(f'{path}: not a readable image')
    return image
