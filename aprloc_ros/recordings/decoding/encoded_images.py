"""JPEG, PNG and other encoded images to pixels, from files and messages: one decoder, which refuses what is not all there.

Decoders make a half grey picture of data that end early; nobody may learn from it or be localised by it.
"""

from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.decoding import jpeg, png
from aprloc_ros.recordings.decoding.pixels import as_8_bits, check_size

MAX_IMAGE_BYTES = 1 << 30   # as RGB: of files and recordings of one's own; a node accepts less
_BLOCK = 8                  # pixels of a JPEG that are coded together, along each side
_NOTHING = 128              # their brightness where the data are missing


def read_image(path: Path) -> np.ndarray:
    """[H, W, 3] uint8 RGB of an image file, not turned by its EXIF. AprlocError names the file."""
    return as_8_bits(read_samples(path))


def read_samples(path: Path) -> np.ndarray:
    """As `read_image`, of the file's own bits: [H, W, 3] uint8 or uint16 RGB."""
    data = _read(path)
    try:
        return _decode(data, MAX_IMAGE_BYTES)
    except AprlocError as error:
        raise AprlocError(f'{path}: {error}') from None


def is_stored_turned(path: Path) -> bool:
    """Whether its EXIF asks viewers to turn or mirror it: what they show is not what `read_image` reads."""
    data = np.frombuffer(_read(path), np.uint8)
    shown, stored = (cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | flag) for flag in (0, cv2.IMREAD_IGNORE_ORIENTATION))
    return not np.array_equal(shown, stored)


def check_whole(path: Path) -> None:
    """Without decoding it, as far as a JPEG or PNG tells. AprlocError names a file that is damaged or ends early."""
    data = _read(path)
    try:
        if is_jpeg_or_png(data):
            _checked_size(data, MAX_IMAGE_BYTES)
    except AprlocError as error:
        raise AprlocError(f'{path}: {error}') from None


def is_jpeg_or_png(data: bytes) -> bool:
    return data.startswith((jpeg.START, png.START))


def decode(data: bytes, max_image_bytes: int) -> np.ndarray:
    """An encoded image -> [H, W, 3] uint8 RGB.

    Raises AprlocError for an image that ends early or is damaged, is larger than max_image_bytes as RGB, or is none.
    """
    return as_8_bits(_decode(data, max_image_bytes))


def _decode(data: bytes, max_image_bytes: int) -> np.ndarray:
    """[H, W, 3] RGB as stored."""
    size, is_progressive = _checked_size(data, max_image_bytes) if is_jpeg_or_png(data) else (None, False)
    image = _pixels(data)
    if size and (image is None or size != image.shape[1::-1]):
        raise AprlocError(f'the image of {size[0]}x{size[1]} does not decode: it is damaged')
    if image is None:
        raise AprlocError(f'missing or not a readable image: {len(data)} bytes that are damaged or of an unknown format')
    check_size(*image.shape[1::-1], max_image_bytes)
    if image.dtype not in (np.uint8, np.uint16):
        raise AprlocError(f'the image has samples of {image.dtype}; write it with 8 or 16 bits')
    if data.startswith(jpeg.START) and (is_progressive or _ends_in_nothing(image)) and _is_short(data, image):
        raise _ends_early(data, size)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise AprlocError(f'{path}: missing or not a readable image ({error.strerror})') from None


def _checked_size(data: bytes, max_image_bytes: int) -> tuple[tuple[int, int], bool]:
    """(width, height) of a JPEG or PNG that is allowed and all there, nothing decoded, and whether it is a progressive JPEG."""
    is_progressive = False
    if data.startswith(jpeg.START):
        *size, is_progressive, end = jpeg.read_layout(data)
        check_size(*size, max_image_bytes)
        is_whole = end is not None
    else:
        size = png.read_size(data)
        check_size(*size, max_image_bytes)
        is_whole = png.is_whole(data)
    if not is_whole:
        raise _ends_early(data, size)
    return tuple(size), is_progressive


def _ends_early(data: bytes, size: tuple[int, int]) -> AprlocError:
    return AprlocError(f'the image of {size[0]}x{size[1]} is damaged or ends early, after {len(data)} bytes; '
                       f'record or copy it anew')


def _pixels(data: bytes) -> np.ndarray | None:
    """[H, W, 3] BGR of 8 or 16 bits."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8),
                            cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _ends_in_nothing(image: np.ndarray) -> bool:
    """Whether the last block of a JPEG may have had no data."""
    height, width = image.shape[:2]
    last = image[(height - 1) // _BLOCK * _BLOCK:, (width - 1) // _BLOCK * _BLOCK:]
    return bool((np.abs(cv2.cvtColor(last, cv2.COLOR_BGR2GRAY).astype(int) - _NOTHING) <= 1).all())


def _is_short(data: bytes, image: np.ndarray) -> bool:
    """Whether the decoder would have taken more data than a JPEG holds before its end marker."""
    longer = _pixels(jpeg.with_longer_scan(data, jpeg.read_layout(data).end))
    return longer is not None and not np.array_equal(longer, image)
