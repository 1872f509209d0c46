"""What every capture must be to be used, whatever its format; looked at once, before anything is built."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from aprloc_ros.bit_depth import used_bits
from aprloc_ros.errors import AprlocError
from aprloc_ros.intrinsics import check_intrinsics
from aprloc_ros.recordings.decoding import png
from aprloc_ros.recordings.decoding.encoded_images import check_whole, read_samples
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.choice import Choice
from aprloc_ros.training.datasets.files import orientation
from aprloc_ros.training.datasets.mask_files import with_masks
from aprloc_ros.training.datasets.repeats import without_repeats
from aprloc_ros.training.datasets.sizes import fitted, shapes

_OF_16_BITS = ('.tif', '.tiff', '.pgm', '.ppm')   # formats that may have them, beside PNG


def admitted(capture: Capture, choice: Choice) -> Capture:
    """The capture with cameras of its images' sizes, its masks, without images that came twice, and notes of what is not as written.

    Raises AprlocError for impossible intrinsics, files that end early, one file for two frames, images of another aspect than their
    camera, and doubtful masks.
    """
    _check_files((*capture.train, *capture.test))
    capture = without_repeats(capture)
    frames = (*capture.train, *capture.test)
    if capture.format != 'bag':   # whose cameras are checked as sensors, of which an image may show a region
        for camera, frame in {frame.camera: frame for frame in reversed(frames)}.items():
            check_intrinsics(camera, f'{frame.image_path}: its camera')
        for frame in frames:   # a bag's images were decoded
            check_whole(frame.image_path)
    frames, scaled = fitted(frames)
    count = len(capture.train)
    frames, bits = with_sample_bits(frames[:count], frames[count:])
    root = capture.root if capture.root.is_dir() else capture.root.parent
    frames, masked = with_masks(frames, root, choice.masks_hide)
    notes = (*capture.notes, *scaled, *shapes(frames), *_turned(frames), *bits, *masked)
    return replace(capture, train=frames[:count], test=frames[count:], notes=notes)


def _check_files(frames: tuple[Frame, ...]):
    """A list of another machine names folders that are not here, so that images of two of them may be looked for in one."""
    name_of = {}
    for frame in frames:
        other = name_of.setdefault(frame.image_path, frame.name)
        if other != frame.name:
            raise AprlocError(f'{frame.image_path}: both {other} and {frame.name} are this file; keep the folders that the list names')


def _turned(frames: tuple[Frame, ...]) -> tuple[str, ...]:
    turned = [frame for frame in frames if orientation(frame.image_path) != 1]
    if not turned:
        return ()
    said = (f'{len(turned)} of {len(frames)} images have an EXIF tag that asks viewers to turn or mirror them (as {turned[0].name}): pixels '
            'are taken as they are stored, so poses and intrinsics must be of these too')
    return (said,)


def with_sample_bits(train: tuple[Frame, ...], test: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """All frames with the bits that 16-bit files use, one number told by those of training, and what to say of it."""
    deep = [frame.image_path for frame in train if has_16_bits(frame.image_path)]
    if not deep:
        return (*train, *test), ()
    largest = max(int(read_samples(path).max()) for path in deep)
    bits = used_bits(largest)
    said = f'16-bit images: the largest value is {largest}, so {bits} bits are used and scaled to 8'
    return tuple(replace(frame, sample_bits=bits) for frame in (*train, *test)), (said,)


def has_16_bits(path: Path) -> bool:
    """By the header of a PNG; of other formats by what is decoded."""
    if path.suffix.lower() in _OF_16_BITS:
        return read_samples(path).dtype == np.uint16
    with path.open('rb') as file:
        return png.has_16_bits(file.read(25))
