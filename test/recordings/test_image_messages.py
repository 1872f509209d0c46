"""Image messages against pixels encoded by hand or by OpenCV; the messages are plain objects, so no ROS is needed."""

import sys
import types
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.decoding.image_messages import decode_image

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


COLOUR = {'rgb8': RGB, 'bgr8': RGB[..., ::-1], 'rgba8': np.dstack([RGB, RGB[..., 0]]),
          'bgra8': np.dstack([RGB[..., ::-1], RGB[..., 0]]), '8UC3': RGB[..., ::-1],
          '8UC4': np.dstack([RGB[..., ::-1], RGB[..., 0]])}
GREY = np.repeat(RGB[..., :1], 3, 2)


@pytest.mark.parametrize('encoding', [*COLOUR, 'BGR8', 'Rgb8', '8uc3'])
def test_colour(encoding):
    data = COLOUR.get(encoding, COLOUR.get(encoding.lower(), COLOUR['8UC3']))
    image = decode_image(raw(data, encoding), LIMIT)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize('big, order', [(0, '<u2'), (1, '>u2')])
@pytest.mark.parametrize('encoding', COLOUR)
def test_16_bit_colour_in_both_byte_orders(encoding, big, order):
    values = (COLOUR[encoding].astype(np.uint16) * 257).astype(order)
    image = decode_image(raw(values, encoding.replace('8', '16'), big=big), LIMIT)
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize('encoding', ['rgb8', 'mono8', 'mono16', 'bayer_rggb8', 'yuv422', 'nv12', 'nv21'])
def test_rows_with_padding(encoding):
    rows = {'nv12': 24, 'nv21': 24}.get(encoding, 16)
    width_bytes = {'rgb8': 72, 'mono16': 48, 'yuv422': 48}.get(encoding, 24)
    tight = np.random.default_rng(0).integers(0, 256, (rows, width_bytes), np.uint8)
    padded = np.concatenate([tight, np.full((rows, 8), 7, np.uint8)], 1)
    expected = decode_image(raw(tight, encoding, step=width_bytes), LIMIT)
    np.testing.assert_array_equal(decode_image(raw(padded, encoding, step=width_bytes + 8), LIMIT), expected)


@pytest.mark.parametrize('encoding', ['mono8', '8UC1', 'MONO8'])
def test_grey(encoding):
    np.testing.assert_array_equal(decode_image(raw(RGB[..., 0], encoding), LIMIT), GREY)


@pytest.mark.parametrize('big, order', [(0, '<u2'), (1, '>u2')])
def test_16_bit_grey_in_both_byte_orders(big, order):
    values = (RGB[..., 0].astype(np.uint16) * 257).astype(order)
    np.testing.assert_array_equal(decode_image(raw(values, 'mono16', big=big), LIMIT), GREY)


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('encoding', ['mono16', 'rgb16', 'bayer_rggb16'])
def test_a_sensor_of_fewer_bits_than_its_container_is_no_dark_image(bits, encoding):
    values = (RGB[..., :1] if encoding != 'rgb16' else RGB).astype(float) / RGB.max()
    sensor = (values * (2**bits - 1)).round().astype('<u2')
    image = decode_image(raw(sensor, encoding), LIMIT)
    if encoding == 'bayer_rggb16':
        assert image.max() > 230
    else:
        assert np.abs(image / 255 - values).max() <= 1 / 255


def test_a_covered_lens_stays_dark():
    assert decode_image(raw(np.zeros((16, 24), '<u2'), 'mono16'), LIMIT).max() == 0


@pytest.mark.parametrize('encoding, order', [('nv12', 'uv'), ('nv21', 'vu')])
def test_yuv_420(encoding, order):
    # BT.601 with 16..235 luma of one colour: brightness of every pixel, then the colour of each two by two.
    r, g, b = 200.0, 100.0, 30.0
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    chroma = {'u': 128 - 0.148 * r - 0.291 * g + 0.439 * b, 'v': 128 + 0.439 * r - 0.368 * g - 0.071 * b}
    data = np.vstack([np.full((16, 24), y), np.tile([chroma[c] for c in order], (8, 12))]).round().astype(np.uint8)
    image = decode_image(raw(data, encoding, step=24), LIMIT)
    assert image.shape == (16, 24, 3) and np.abs(image - np.array([r, g, b])).max() <= 3


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


@pytest.mark.parametrize('encoding, rows, row_bytes, width, height', [
    ('yuv422', 15, 46, 23, 15), ('nv12', 24, 23, 23, 16), ('nv21', 22, 24, 24, 15)])
def test_odd_yuv_is_one_line(encoding, rows, row_bytes, width, height):
    with pytest.raises(AprlocError, match='even'):
        decode_image(raw(np.zeros((rows, row_bytes), np.uint8), encoding, width, height, step=row_bytes), LIMIT)


@pytest.mark.parametrize('encoding, words', [
    ('nv12', 'need 576'), ('nv24', 'not one of'), ('16UC1', 'is a depth image'), ('32FC1', 'is a depth image'),
    ('64FC3', 'not one of')])
def test_the_diagnosis_is_the_right_one(encoding, words):
    with pytest.raises(AprlocError, match=words):
        decode_image(raw(RGB[..., 0], encoding), LIMIT)


def test_nothing_is_allocated_over_the_limit():
    with pytest.raises(AprlocError, match='at most 1151'):
        decode_image(raw(RGB, 'rgb8'), RGB.size - 1)
    assert decode_image(raw(RGB, 'rgb8'), RGB.size).shape == RGB.shape


@pytest.mark.parametrize('data, form, words', [
    (b'', 'jpeg', 'neither JPEG nor PNG'), (b'GIF89a', 'gif', 'neither JPEG nor PNG'),
    (b'\xff\xd8\xff\xd9', 'jpeg', 'no frame header'), (b'', '16UC1; compressedDepth png', 'depth'),
    (b'', '16UC1; png compressed ', 'depth'), (b'\0\0\0\1', 'h264', "'h264'")])
def test_what_is_no_colour_image_is_refused(data, form, words):
    with pytest.raises(AprlocError, match=words):
        decode_image(compressed(data, form), LIMIT)


@pytest.mark.parametrize('form', ['jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8', '', 'png'])
def test_the_content_counts_not_what_the_format_says(form):
    jpeg = cv2.imencode('.jpg', RGB[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    assert np.abs(decode_image(compressed(jpeg, form), LIMIT).astype(int) - RGB).max() < 12
    png = cv2.imencode('.png', RGB[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_image(compressed(png, form), LIMIT), RGB)


@pytest.mark.parametrize('form', ['mono8; jpeg compressed ', 'mono16; png compressed ', 'jpeg'])
def test_compressed_grey(form):
    values = RGB[..., 0] if form != 'mono16; png compressed ' else (RGB[..., 0] / RGB.max() * 4095).astype(np.uint16)
    data = cv2.imencode('.png' if 'png' in form else '.jpg', values)[1].tobytes()
    image = decode_image(compressed(data, form), LIMIT)
    assert (image == image[..., :1]).all() and image.shape == RGB.shape and image.max() > 200


@pytest.mark.parametrize('suffix, bits', [('.jpg', 8), ('.png', 8), ('.png', 16)])
def test_a_mosaic_that_was_compressed_as_it_is(suffix, bits):
    """compressed_image_transport does not turn a Bayer pattern into colours."""
    tile = np.array([[200, 100], [100, 30]], np.uint16) * (257 if bits == 16 else 1)
    data = cv2.imencode(suffix, np.tile(tile, (8, 12)).astype(np.uint16 if bits == 16 else np.uint8),
                        [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    image = decode_image(compressed(data, f'bayer_rggb{bits}; {suffix[1:]} compressed '), LIMIT)
    assert np.abs(image[2:-2, 2:-2].astype(int) - [200, 100, 30]).max() <= (255 * 255 // 200 - 255 + 3 if bits == 16 else 12)
    coloured = cv2.imencode('.png', RGB[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_image(compressed(coloured, 'bayer_rggb8; png compressed bgr8'), LIMIT), RGB)


@pytest.mark.parametrize('error', [ModuleNotFoundError("No module named 'cv_bridge.boost'"), AttributeError('_ARRAY_API')])
@pytest.mark.parametrize('at', ['import', 'call'])
def test_a_cv_bridge_without_its_compiled_part_is_none(monkeypatch, error, at):
    """It is imported only when the first image is converted."""
    def fail(*_):
        raise error

    module = types.ModuleType('cv_bridge')
    if at == 'import':
        module.__getattr__ = fail
    else:
        module.CvBridge = type('CvBridge', (), {'imgmsg_to_cv2': fail})
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    with pytest.raises(AprlocError, match="encoding 'hsv8' is not one of rgb8"):
        decode_image(raw(RGB, 'hsv8'), LIMIT)


def test_cv_bridge_decodes_what_we_do_not(monkeypatch):
    module = types.ModuleType('cv_bridge')
    module.CvBridgeError = type('CvBridgeError', (TypeError,), {})

    def imgmsg_to_cv2(self, message, encoding):
        if message.encoding != 'lab8':
            raise module.CvBridgeError('[hsv8] is not a colour format')
        assert encoding == 'rgb8'
        return RGB

    module.CvBridge = type('CvBridge', (), {'imgmsg_to_cv2': imgmsg_to_cv2})
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    message = raw(RGB, 'lab8')
    np.testing.assert_array_equal(decode_image(message, LIMIT), RGB)
    with pytest.raises(AprlocError, match='nor decoded by cv_bridge'):
        decode_image(raw(RGB, 'hsv8'), LIMIT)
