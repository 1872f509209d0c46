"""sensor_msgs/Image and CompressedImage -> RGB pixels, without ROS: NumPy and OpenCV decode, cv_bridge does the rest.

A message may come from anyone: every size is checked against the data and a limit before anything is allocated.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from aprloc_ros.errors import AprlocError


@dataclass(frozen=True)
class _Encoding:
    """How one pixel lies in the rows of sensor_msgs/Image, and the OpenCV code that makes it RGB."""

    channels: int
    bytes_per_channel: int
    to_rgb: int | None


_ENCODINGS = {
    'rgb8': _Encoding(3, 1, None),
    'bgr8': _Encoding(3, 1, cv2.COLOR_BGR2RGB),
    'rgba8': _Encoding(4, 1, cv2.COLOR_RGBA2RGB),
    'bgra8': _Encoding(4, 1, cv2.COLOR_BGRA2RGB),
    'mono8': _Encoding(1, 1, cv2.COLOR_GRAY2RGB),
    'mono16': _Encoding(1, 2, cv2.COLOR_GRAY2RGB),
    'yuv422': _Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': _Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': _Encoding(2, 1, cv2.COLOR_YUV2RGB_YUYV),
    'yuyv': _Encoding(2, 1, cv2.COLOR_YUV2RGB_YUYV),
}
for _pattern in ('RGGB', 'BGGR', 'GBRG', 'GRBG'):
    for _bits in (8, 16):
        _code = getattr(cv2, f'COLOR_Bayer{_pattern}2RGB')
        _ENCODINGS[f'bayer_{_pattern.lower()}{_bits}'] = _Encoding(1, _bits // 8, _code)

# JPEG markers that start a frame and hold its size (ITU-T T.81, table B.1), and those that stand without a length.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
_PNG_ANIMATION = (b'acTL', b'fcTL', b'fdAT')


def decode_image(message, max_image_bytes: int) -> np.ndarray:
    """sensor_msgs/Image or CompressedImage (or any object with their fields) -> [H, W, 3] uint8 RGB.

    max_image_bytes bounds the decoded image. Raises AprlocError for a size of zero, a size over the limit, data that
    does not fill the size, an unknown encoding, or a stream that does not decode.
    """
    if hasattr(message, 'encoding'):
        return _decode_raw(message, max_image_bytes)
    return _decode_compressed(message, max_image_bytes)


def _check_size(width: int, height: int, max_image_bytes: int) -> None:
    if width < 1 or height < 1:
        raise AprlocError(f'the image is {width}x{height}: it has no pixels; check the camera driver')
    if width * height * 3 > max_image_bytes:
        raise AprlocError(f'the image is {width}x{height}, {width * height * 3} bytes as RGB; at most '
                          f'{max_image_bytes} are allowed by the parameter max_image_bytes')


def _decode_raw(message, max_image_bytes: int) -> np.ndarray:
    width, height, step = message.width, message.height, message.step
    _check_size(width, height, max_image_bytes)
    if len(message.data) != step * height:
        raise AprlocError(f'the image holds {len(message.data)} bytes but its {height} rows of {step} need '
                          f'{step * height}; it was truncated or its step is wrong')
    encoding = _ENCODINGS.get(message.encoding.lower())
    if encoding is None:
        return _decode_by_cv_bridge(message)
    row_bytes = width * encoding.channels * encoding.bytes_per_channel
    if step < row_bytes:
        raise AprlocError(f'the image has rows of {step} bytes but {width} pixels of {message.encoding} need {row_bytes}')
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :row_bytes]
    pixels = np.ascontiguousarray(rows)
    if encoding.bytes_per_channel == 2:
        pixels = _to_8_bits(pixels.view('>u2' if message.is_bigendian else '<u2'))
    pixels = pixels.reshape(height, width, encoding.channels)
    if encoding.to_rgb is None:
        return pixels
    return _convert(pixels, encoding.to_rgb, message.encoding)


def _convert(pixels: np.ndarray, code: int, encoding: str) -> np.ndarray:
    try:
        if pixels.shape[2] == 2 and pixels.shape[1] % 2:   # OpenCV 4.6 converts it to something
            raise cv2.error
        return cv2.cvtColor(pixels, code)
    except cv2.error:
        raise AprlocError(f'an image of {pixels.shape[1]}x{pixels.shape[0]} cannot be {encoding}: '
                          f'its width must be even, since two columns share their colour') from None


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint16 of any byte order -> uint8, 65535 to 255 (as cv_bridge does)."""
    return cv2.convertScaleAbs(values.astype(np.uint16), alpha=255 / 65535)


def _decode_by_cv_bridge(message) -> np.ndarray:
    """The encodings that only cv_bridge knows, on machines that have it."""
    known = ', '.join(_ENCODINGS)
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except (ImportError, AttributeError):  # AttributeError: a cv_bridge built for another NumPy
        raise AprlocError(f'image encoding {message.encoding[:40]!r} is not one of {known}') from None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, 'rgb8'))
    except (CvBridgeError, cv2.error, TypeError, ValueError, KeyError) as error:
        raise AprlocError(f'image encoding {message.encoding[:40]!r} is neither one of {known} nor decoded by '
                          f'cv_bridge: {_first_line(error)}') from None


def _decode_compressed(message, max_image_bytes: int) -> np.ndarray:
    data = memoryview(message.data).tobytes()
    if 'compressedDepth' in message.format:
        raise AprlocError(f'the image is a depth image ({message.format[:40]!r}); a colour image is needed')
    if data.startswith(b'\xff\xd8'):
        width, height = _jpeg_size(data)
        complete = data.rstrip(b'\0').endswith(b'\xff\xd9')
    elif data.startswith(b'\x89PNG\r\n\x1a\n'):
        width, height = _png_size(data)
        complete = _is_whole_png(data)
    else:
        raise AprlocError(f'the compressed image ({message.format[:40]!r}, {len(data)} bytes) is neither JPEG nor PNG')
    _check_size(width, height, max_image_bytes)
    if not complete:
        raise AprlocError(f'the compressed image of {width}x{height} is damaged or ends early, after {len(data)} bytes')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise AprlocError(f'the compressed image does not decode: {_first_line(error)}') from None
    if image is None or image.shape[:2] != (height, width):
        raise AprlocError(f'the compressed image of {width}x{height} does not decode: it is damaged')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header (ITU-T T.81, section B.2.2), nothing decoded."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_FRAMES:
            return int.from_bytes(data[at + 7:at + 9], 'big'), int.from_bytes(data[at + 5:at + 7], 'big')
        else:
            at += 2 + int.from_bytes(data[at + 2:at + 4], 'big')
    raise AprlocError(f'the JPEG image of {len(data)} bytes has no frame header: it is truncated or damaged')


def _png_size(data: bytes) -> tuple[int, int]:
    """Width and height from the IHDR chunk (PNG specification, section 11.2.2)."""
    if len(data) < 24 or data[12:16] != b'IHDR':
        raise AprlocError(f'the PNG image of {len(data)} bytes has no header: it is truncated or damaged')
    return int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')


def _is_whole_png(data: bytes) -> bool:
    """Whether the chunks lie within the data up to IEND (section 5.3): a decoder may allocate what a chunk claims."""
    at = 8
    while at + 12 <= len(data):
        name = data[at + 4:at + 8]
        at += 12 + int.from_bytes(data[at:at + 4], 'big')
        if name == b'IEND':
            return at <= len(data)
        if name in _PNG_ANIMATION:
            raise AprlocError('the PNG image is animated; a still image is needed')
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
