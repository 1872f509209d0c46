"""Image messages against pixels encoded by hand or by OpenCV; the messages are plain objects, so no ROS is needed."""

import resource
import struct
import sys
import types
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.image_messages import decode_image

LIMIT = 1_000_000
# Smooth, so that subsampled colour and Bayer patterns lose little of it.
V, U = np.mgrid[:16, :24]
RGB = np.stack([40 + 8 * U, 200 - 5 * V, 90 + 2 * U + 3 * V], -1).astype(np.uint8)


def raw(data, encoding, width=24, height=16, step=None, big=0):
    data = np.ascontiguousarray(data).tobytes()
    return SimpleNamespace(width=width, height=height, encoding=encoding, is_bigendian=big,
                           step=len(data) // height if step is None else step, data=data)


def compressed(data, form='jpeg'):
    return SimpleNamespace(format=form, data=data)


@pytest.mark.parametrize('encoding, data', [
    ('rgb8', RGB), ('bgr8', RGB[..., ::-1]),
    ('rgba8', np.dstack([RGB, RGB[..., 0]])), ('bgra8', np.dstack([RGB[..., ::-1], RGB[..., 0]]))])
def test_colour(encoding, data):
    image = decode_image(raw(data, encoding), LIMIT)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


def test_rows_with_padding():
    padded = np.concatenate([RGB.reshape(16, 72), np.full((16, 8), 7, np.uint8)], 1)
    np.testing.assert_array_equal(decode_image(raw(padded, 'rgb8'), LIMIT), RGB)


def test_grey():
    image = decode_image(raw(RGB[..., 0], 'mono8'), LIMIT)
    np.testing.assert_array_equal(image, np.repeat(RGB[..., :1], 3, 2))


@pytest.mark.parametrize('big, order', [(0, '<u2'), (1, '>u2')])
def test_16_bit_grey_in_both_byte_orders(big, order):
    values = (RGB[..., 0].astype(np.uint16) * 257).astype(order)
    image = decode_image(raw(values, 'mono16', big=big), LIMIT)
    np.testing.assert_array_equal(image[..., 0], RGB[..., 0])


@pytest.mark.parametrize('encoding, luma_first', [('yuv422', False), ('uyvy', False), ('yuv422_yuy2', True),
                                                  ('yuyv', True)])
def test_yuv_422(encoding, luma_first):
    # BT.601 with 16..235 luma, ITU-R BT.601-7 section 2.5, chroma of the even columns.
    r, g, b = RGB.astype(float).transpose(2, 0, 1)
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = (128 - 0.148 * r - 0.291 * g + 0.439 * b)[:, ::2]
    v = (128 + 0.439 * r - 0.368 * g - 0.071 * b)[:, ::2]
    chroma = np.stack([u, v], -1).reshape(16, 24)
    pairs = [y, chroma] if luma_first else [chroma, y]
    image = decode_image(raw(np.stack(pairs, -1).round().astype(np.uint8), encoding), LIMIT)
    assert np.abs(image.astype(int) - RGB)[:, ::2].max() <= 4


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer(pattern, bits):
    mosaic = np.empty((16, 24), np.uint16)
    for index, colour in enumerate(pattern):
        row, column = divmod(index, 2)
        mosaic[row::2, column::2] = RGB[row::2, column::2, 'rgb'.index(colour)]
    data = mosaic.astype(np.uint8) if bits == 8 else (mosaic * 257).astype('<u2')
    image = decode_image(raw(data, f'bayer_{pattern}{bits}'), LIMIT)
    assert np.abs(image.astype(int) - RGB)[2:-2, 2:-2].max() <= 4


@pytest.mark.parametrize('changes, words', [
    ({'width': 0}, '0x16'), ({'height': 0, 'data': b''}, '24x0'),
    ({'width': 2**31, 'height': 2**31}, 'max_image_bytes'), ({'data': b'12345'}, 'truncated'),
    ({'data': bytes(16 * 72 + 1)}, ['truncated', ' its step'][0]),
    ({'step': 70, 'data': bytes(16 * 70)}, 'need 72'), ({'encoding': 'rgba8'}, 'need 96'),
    ({'encoding': 'hsv8'}, 'not one of rgb8'), ({'encoding': ''}, 'not one of rgb8')])
def test_a_broken_raw_image_is_one_line(changes, words):
    message = raw(RGB, 'rgb8')
    vars(message).update(changes)
    with pytest.raises(AprlocError, match=words) as caught:
        decode_image(message, LIMIT)
    assert '\n' not in str(caught.value)


def test_odd_yuv_is_one_line():
    with pytest.raises(AprlocError, match='even'):
        decode_image(raw(np.zeros((15, 46), np.uint8), 'yuv422', width=23, height=15), LIMIT)


def test_nothing_is_allocated_over_the_limit():
    with pytest.raises(AprlocError, match='at most 1151'):
        decode_image(raw(RGB, 'rgb8'), RGB.size - 1)
    assert decode_image(raw(RGB, 'rgb8'), RGB.size).shape == RGB.shape


def test_png_is_exact_and_jpeg_is_near():
    png = cv2.imencode('.png', RGB[..., ::-1])[1].tobytes()
    jpeg = cv2.imencode('.jpg', RGB[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    np.testing.assert_array_equal(decode_image(compressed(png, 'rgb8; png compressed'), LIMIT), RGB)
    assert np.abs(decode_image(compressed(jpeg), LIMIT).astype(int) - RGB).max() < 12


def test_a_progressive_jpeg_and_one_with_a_grey_scale():
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    assert decode_image(compressed(cv2.imencode('.jpg', RGB, options)[1].tobytes()), LIMIT).shape == (16, 24, 3)
    assert decode_image(compressed(cv2.imencode('.jpg', RGB[..., 0])[1].tobytes()), LIMIT).shape == (16, 24, 3)


def jpeg_of(width, height):
    data = bytearray(cv2.imencode('.jpg', RGB)[1].tobytes())
    at = data.index(b'\xff\xc0')
    data[at + 5:at + 9] = struct.pack('>HH', height, width)
    return bytes(data)


def png_of(width, height):
    data = bytearray(cv2.imencode('.png', RGB)[1].tobytes())
    data[16:24] = struct.pack('>II', width, height)
    return bytes(data)


@pytest.mark.parametrize('make', [jpeg_of, png_of])
def test_a_size_over_the_limit_is_seen_in_the_header(make):
    with pytest.raises(AprlocError, match='60000x60000'):
        decode_image(compressed(make(60000, 60000)), LIMIT)
    with pytest.raises(AprlocError, match='no pixels'):
        decode_image(compressed(make(0, 16)), LIMIT)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_every_truncation_is_refused_in_one_line(suffix):
    data = cv2.imencode(suffix, RGB)[1].tobytes()
    for end in range(len(data) - 1):
        with pytest.raises(AprlocError) as caught:
            decode_image(compressed(data[:end]), LIMIT)
        assert '\n' not in str(caught.value)


def test_damaged_bytes_cost_neither_memory_nor_another_error():
    """A PNG chunk that claims gigabytes makes OpenCV allocate them: it must not get there."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = np.random.default_rng(0)
    for suffix in ('.jpg', '.png'):
        data = cv2.imencode(suffix, RGB)[1].tobytes()
        for _ in range(300):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 3):
                damaged[position] = rng.integers(256)
            try:
                assert decode_image(compressed(bytes(damaged)), LIMIT).nbytes <= LIMIT
            except AprlocError as error:
                assert '\n' not in str(error)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown_kib < 50_000


def test_an_animated_png_is_refused():
    data = cv2.imencode('.png', RGB)[1].tobytes()
    chunk = b'acTL' + struct.pack('>II', 2, 0)
    animated = data[:33] + struct.pack('>I', 8) + chunk + struct.pack('>I', zlib.crc32(chunk)) + data[33:]
    with pytest.raises(AprlocError, match='animated'):
        decode_image(compressed(animated), LIMIT)


@pytest.mark.parametrize('data, form, words', [
    (b'', 'jpeg', 'neither JPEG nor PNG'), (b'GIF89a', 'gif', 'neither JPEG nor PNG'),
    (b'\xff\xd8\xff\xd9', 'jpeg', 'no frame header'), (b'', '16UC1; compressedDepth png', 'depth')])
def test_what_is_no_colour_image_is_refused(data, form, words):
    with pytest.raises(AprlocError, match=words):
        decode_image(compressed(data, form), LIMIT)


def test_cv_bridge_decodes_what_we_do_not(monkeypatch):
    module = types.ModuleType('cv_bridge')
    module.CvBridgeError = type('CvBridgeError', (TypeError,), {})

    def imgmsg_to_cv2(self, message, encoding):
        if message.encoding != 'rgb16':
            raise module.CvBridgeError('[hsv8] is not a colour format')
        assert encoding == 'rgb8'
        return RGB

    module.CvBridge = type('CvBridge', (), {'imgmsg_to_cv2': imgmsg_to_cv2})
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    message = raw(RGB.astype(np.uint16) * 257, 'rgb16')
    np.testing.assert_array_equal(decode_image(message, LIMIT), RGB)
    with pytest.raises(AprlocError, match='nor decoded by cv_bridge'):
        decode_image(raw(RGB, 'hsv8'), LIMIT)
