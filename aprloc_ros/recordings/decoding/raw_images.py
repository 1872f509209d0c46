"""The pixels of a sensor_msgs/Image to RGB: NumPy and OpenCV decode, cv_bridge does the rest where it is installed."""

from dataclasses import dataclass

import cv2
import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.decoding.pixels import as_8_bits, check_size


@dataclass(frozen=True)
class _Encoding:
    """How one pixel lies in the rows of sensor_msgs/Image, and the OpenCV code that makes it RGB."""

    channels: int
    bytes_per_channel: int
    to_rgb: int | None
    rows_of_two: int = 2   # rows of data to two rows of pixels; 3 where the colour of both lies in one of its own


_ENCODINGS = {}
for _order, _code in (('rgb', None), ('bgr', cv2.COLOR_BGR2RGB), ('rgba', cv2.COLOR_RGBA2RGB), ('bgra', cv2.COLOR_BGRA2RGB),
                      ('mono', cv2.COLOR_GRAY2RGB)):
    for _bytes in (1, 2):
        _ENCODINGS[f'{_order}{8 * _bytes}'] = _Encoding(1 if _order == 'mono' else len(_order), _bytes, _code)
for _names, _code in ((('yuv422', 'uyvy'), cv2.COLOR_YUV2RGB_UYVY), (('yuv422_yuy2', 'yuyv'), cv2.COLOR_YUV2RGB_YUYV)):
    for _name in _names:
        _ENCODINGS[_name] = _Encoding(2, 1, _code)
for _name, _code in (('nv12', cv2.COLOR_YUV2RGB_NV12), ('nv21', cv2.COLOR_YUV2RGB_NV21)):
    _ENCODINGS[_name] = _Encoding(1, 1, _code, rows_of_two=3)
# Numbers of OpenCV without a meaning are taken as OpenCV means them.
for _name, _same in (('8uc1', 'mono8'), ('8uc3', 'bgr8'), ('8uc4', 'bgra8'), ('16uc3', 'bgr16'), ('16uc4', 'bgra16')):
    _ENCODINGS[_name] = _ENCODINGS[_same]
for _pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
    for _bytes in (1, 2):
        _ENCODINGS[f'bayer_{_pattern}{8 * _bytes}'] = _Encoding(
            1, _bytes, getattr(cv2, f'COLOR_Bayer{_pattern.upper()}2RGB'))


def decode_raw(message, max_image_bytes: int) -> np.ndarray:
    """sensor_msgs/Image -> [H, W, 3] uint8 RGB; rows may be longer than their pixels. AprlocError as `decode_image`."""
    width, height, step = message.width, message.height, message.step
    check_size(width, height, max_image_bytes)
    encoding = _ENCODINGS.get(message.encoding.lower())
    if encoding is None:
        return _decode_by_cv_bridge(message)
    shares_rows, shares_columns = encoding.rows_of_two == 3, encoding.rows_of_two == 3 or encoding.channels == 2
    if shares_columns and width % 2 or shares_rows and height % 2:
        raise AprlocError(f'an image of {width}x{height} cannot be {message.encoding}: its sides must be even, since '
                          f'neighbours share their colour')
    row_bytes = width * encoding.channels * encoding.bytes_per_channel
    if step < row_bytes:
        raise AprlocError(f'the image has rows of {step} bytes but {width} pixels of {message.encoding} need {row_bytes}')
    rows = height * encoding.rows_of_two // 2
    if len(message.data) != step * rows:
        raise AprlocError(f'the image holds {len(message.data)} bytes but its {rows} rows of {step} ({height} of pixels, '
                          f'{message.encoding}) need {step * rows}; it was truncated or its step is wrong')
    pixels = np.ascontiguousarray(np.frombuffer(message.data, np.uint8).reshape(rows, step)[:, :row_bytes])
    if encoding.bytes_per_channel == 2:
        pixels = as_8_bits(pixels.view('>u2' if message.is_bigendian else '<u2').astype(np.uint16))
    return _convert(pixels.reshape(rows, width, encoding.channels), encoding.to_rgb, message.encoding)


def demosaic(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """[H, W] uint8 behind a Bayer pattern such as bayer_rggb8 -> [H, W, 3] uint8 RGB."""
    if encoding not in _ENCODINGS:
        raise AprlocError(f'image encoding {encoding[:40]!r} is not one of {", ".join(_ENCODINGS)}')
    return _convert(pixels, _ENCODINGS[encoding].to_rgb, encoding)


def _convert(pixels: np.ndarray, code: int | None, encoding: str) -> np.ndarray:
    if code is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, code)
    except cv2.error:
        raise AprlocError(f'an image of {pixels.shape[1]}x{pixels.shape[0]} cannot be {encoding}') from None


def _decode_by_cv_bridge(message) -> np.ndarray:
    """The encodings that only cv_bridge knows, on machines that have it."""
    name, known = message.encoding[:40], ', '.join(_ENCODINGS)
    try:
        from cv_bridge import CvBridge

        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, 'rgb8'))
    except (ImportError, AttributeError):   # not there, or its compiled part is missing or built for another NumPy
        raise AprlocError(f'image encoding {name!r} is not one of {known}') from None
    except Exception as error:  # noqa: BLE001  whatever cv_bridge lets through
        raise AprlocError(f'image encoding {name!r} is neither one of {known} nor decoded by cv_bridge: '
                          f'{(str(error).strip().splitlines() or [type(error).__name__])[0]}') from None
