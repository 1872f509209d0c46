"""What every capture must be to be used, whatever its format; looked at once, before anything is built."""

from dataclasses import replace

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
_PROBED = 8
_LOSSLESS = ('.png', '.tif', '.tiff', '.pgm', '.ppm')   # files whose samples may have 16 bits


def admitted(capture: Capture, choice: Choice) -> Capture:
    """The capture with cameras of its images' sizes, its masks, and notes of what is not as written.

    Raises AprlocError for impossible intrinsics, images of another aspect than their camera, and doubtful masks.
    """
    frames = (*capture.train, *capture.test)
    for camera, frame in {frame.camera: frame for frame in reversed(frames)}.items():
        check_intrinsics(camera, f'{frame.image_path}: its camera')
    frames, scaled = fitted(frames)
    frames, bits = with_sample_bits(frames)
    root = capture.root if capture.root.is_dir() else capture.root.parent
    frames, masked = with_masks(frames, root, choice.masks_hide)
    train, test = frames[:len(capture.train)], frames[len(capture.train):]
    return replace(capture, train=train, test=test, notes=(*capture.notes, *scaled, *shapes(frames), *bits, *masked))


def check_intrinsics(camera: Camera, where: str):
    """AprlocError for what no camera has: they are of another image, or in another unit."""
    size = f'{camera.width}x{camera.height}'
    if not (0 <= camera.cx <= camera.width - 1 and 0 <= camera.cy <= camera.height - 1):
        raise AprlocError(f'{where} has its principal point at {camera.cx:.6g}, {camera.cy:.6g}, outside the {size} image; '
                          f'are the intrinsics of a larger image? give its width and height with them')
    if max(camera.cx, camera.cy) <= 1 < min(camera.width, camera.height) / 8:
        raise AprlocError(f'{where} has its principal point at {camera.cx:.6g}, {camera.cy:.6g} of {size}; it must be in '
                          f'pixels, not a share of the image')
    for name, focal, side in (('fx', camera.fx, camera.width), ('fy', camera.fy, camera.height)):
        if not _SHORTEST <= focal / side <= _LONGEST:
            raise AprlocError(f'{where} has {name} = {focal:.6g} for {side} pixels; it must be {_SHORTEST * side:.6g} to '
                              f'{_LONGEST * side:.6g} pixels (not millimetres, nor a share of the image)')
    if not 1 / _PIXEL_ASPECT <= camera.fx / camera.fy <= _PIXEL_ASPECT:
        raise AprlocError(f'{where} has fx = {camera.fx:.6g} and fy = {camera.fy:.6g}; their ratio must be '
                          f'{1 / _PIXEL_ASPECT} to {_PIXEL_ASPECT}; are width and height exchanged?')


def with_sample_bits(frames: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """The frames with the bits that their 16-bit files use, one number for all, and what to say of it."""
    lossless = [frame for frame in frames if frame.image_path.suffix.lower() in _LOSSLESS]
    probes = lossless[::max(1, len(lossless) // _PROBED)]
    if not any(_samples(frame).dtype == np.uint16 for frame in probes):
        return frames, ()
    largest = max(int(samples.max()) for samples in map(_samples, lossless) if samples.dtype == np.uint16)
    bits = used_bits(largest)
    said = f'16-bit images: the largest value is {largest}, so {bits} bits are used and scaled to 8'
    return tuple(replace(frame, sample_bits=bits) for frame in frames), (said,)


def _samples(frame: Frame) -> np.ndarray:
    image = cv2.imread(str(frame.image_path), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise AprlocError(f'{frame.image_path}: not a readable image')
    return image
