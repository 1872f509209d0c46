"""Encoded images: what ends early is refused wherever it comes from, what is merely unusual is not."""

import resource
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.decoding.encoded_images import MAX_IMAGE_BYTES, read_image, read_samples
from aprloc_ros.recordings.decoding.image_messages import decode_image
from aprloc_ros.training.datasets.capture import Frame

LIMIT = 1_000_000
# Smooth, so that JPEG loses little of it.
V, U = np.mgrid[:16, :24]
RGB = np.stack([40 + 8 * U, 200 - 5 * V, 90 + 2 * U + 3 * V], -1).astype(np.uint8)
END = b'\xff\xd9'


def encoded(suffix, image=None, *options):
    image = RGB if image is None else image
    return cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, options)[1].tobytes()


def photograph(height=96, width=128):
    """[H, W, 3] uint8 with detail everywhere."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def compressed(data, form='jpeg'):
    return SimpleNamespace(format=form, data=data)


def of_message(data, folder):
    return decode_image(compressed(data), LIMIT)


def of_file(data, folder):
    (folder / 'image').write_bytes(data)
    return read_image(folder / 'image')


def of_frame(data, folder):
    (folder / 'image.jpg').write_bytes(data)
    seen = cv2.imread(str(folder / 'image.jpg'), cv2.IMREAD_IGNORE_ORIENTATION)   # half of it is enough
    size = (128, 96) if seen is None else seen.shape[1::-1]
    return Frame('a', folder / 'image.jpg', torch.eye(4), Camera(*size, 10, 10, *size)).read_image()


READERS = pytest.mark.parametrize('read', [of_message, of_file, of_frame])


@READERS
@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)],
                         ids=['baseline', 'progressive', 'restarts'])
def test_jpeg_is_near_and_png_is_exact(tmp_path, read, options):
    jpeg = encoded('.jpg', None, cv2.IMWRITE_JPEG_QUALITY, 98, *options)
    assert np.abs(read(jpeg, tmp_path).astype(int) - RGB).max() < 12
    np.testing.assert_array_equal(read(encoded('.png'), tmp_path), RGB)


@READERS
def test_grey_alpha_and_16_bits(tmp_path, read):
    assert read(encoded('.jpg', RGB[..., 0]), tmp_path).shape == RGB.shape
    with_alpha = cv2.imencode('.png', np.dstack([RGB[..., ::-1], RGB[..., 0]]))[1].tobytes()
    np.testing.assert_array_equal(read(with_alpha, tmp_path), RGB)
    np.testing.assert_array_equal(read(encoded('.png', RGB.astype(np.uint16) * 257), tmp_path), RGB)
    if read is of_file:
        np.testing.assert_array_equal(read_samples(tmp_path / 'image'), RGB.astype(np.uint16) * 257)
    if read is of_frame:
        return   # all files of a capture have the same bits
    of_12_bits = encoded('.png', (RGB[..., 0] / RGB.max() * 4095).astype(np.uint16))
    np.testing.assert_allclose(read(of_12_bits, tmp_path)[..., 0], RGB[..., 0] / RGB.max() * 255, atol=1)


def after_a_crash(data):
    """As long as it was to be, the rest zeros: what file systems leave when the power goes."""
    return data[:len(data) // 2] + bytes(len(data) - len(data) // 2)


SHORT = {
    'half': lambda data: data[:len(data) // 2], 'all but the end marker': lambda data: data[:-2],
    'half an end marker': lambda data: data[:-1], 'after a crash': after_a_crash,
    'half with an end marker': lambda data: data[:len(data) // 2] + END,
    'with a hole': lambda data: data[:len(data) // 2] + data[len(data) // 2 + 400:],
    'header only': lambda data: data[:300], 'nothing': lambda data: b'',
}


@READERS
@pytest.mark.parametrize('cut', SHORT.values(), ids=SHORT)
@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)], ids=['baseline', 'restarts'])
def test_half_a_jpeg_is_no_image(tmp_path, read, cut, options):
    with pytest.raises(AprlocError) as caught:
        read(cut(encoded('.jpg', photograph(), *options)), tmp_path)
    assert '\n' not in str(caught.value)


@READERS
def test_half_a_progressive_jpeg_is_no_image(tmp_path, read):
    data = encoded('.jpg', photograph(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    for end in (len(data) // 3, len(data) * 2 // 3, len(data) - 40):
        for ending in (b'', END):
            with pytest.raises(AprlocError, match='ends early'):
                read(data[:end] + ending, tmp_path)


def with_thumbnail(data):
    """A JPEG in the JPEG's EXIF segment, as cameras put it there: its markers are not those of the image."""
    thumbnail = b'Exif\0\0' + encoded('.jpg', photograph(24, 32))
    return data[:2] + b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail + data[2:]


UNUSUAL = {
    'padding': lambda data: data + bytes(50), 'something behind': lambda data: data + b'SEFT trailer',
    'a second image': lambda data: data + encoded('.jpg', photograph(24, 32)),
    'half a second image': lambda data: data + encoded('.jpg', photograph(24, 32))[:90],
    'a thumbnail': with_thumbnail, 'fill bytes': lambda data: data[:-2] + b'\xff\xff' + END,
    'a comment': lambda data: data[:2] + b'\xff\xfe\x00\x06\xff\xd9\xff\xd9' + data[2:],
}


@READERS
@pytest.mark.parametrize('change', UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)], ids=['baseline', 'progressive'])
def test_an_unusual_jpeg_is_an_image(tmp_path, read, change, options):
    data = encoded('.jpg', photograph(), *options)
    np.testing.assert_array_equal(read(change(data), tmp_path), read(data, tmp_path))
    with pytest.raises(AprlocError):
        read(change(data)[:len(data) // 2], tmp_path)


@READERS
@pytest.mark.parametrize('colour', [(128, 128, 128), (128, 127, 129), (90, 160, 90)])
def test_grey_at_the_end_is_not_taken_for_missing_data(tmp_path, read, colour):
    image = photograph()
    image[48:] = colour
    for options in ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)):
        assert np.abs(read(encoded('.jpg', image, *options), tmp_path)[-8:].astype(int) - colour).max() < 8


@READERS
def test_half_a_png_is_no_image(tmp_path, read):
    data = encoded('.png', photograph())
    at = data.index(b'IDAT') - 4
    length, = struct.unpack('>I', data[at:at + 4])
    body = data[at + 8:at + 8 + length // 2]
    closed = data[:at] + struct.pack('>I', len(body)) + b'IDAT' + body + struct.pack('>I', zlib.crc32(b'IDAT' + body))
    flipped = bytearray(data)
    flipped[at + 100] ^= 1
    for spoilt in (data[:-12], data[:len(data) // 2], after_a_crash(data), closed + data[-12:], bytes(flipped)):
        with pytest.raises(AprlocError, match='ends early|does not decode'):
            read(spoilt, tmp_path)
    np.testing.assert_array_equal(read(data + b'behind', tmp_path), photograph())


@pytest.mark.parametrize('suffix', ['.bmp', '.tiff', '.webp', '.ppm'])
def test_other_files_are_read_whole_or_not_at_all(tmp_path, suffix):
    data = encoded(suffix, photograph(), cv2.IMWRITE_WEBP_QUALITY, 101)
    np.testing.assert_array_equal(of_file(data, tmp_path), photograph())
    for share in (0.2, 0.6, 0.95):
        with pytest.raises(AprlocError, match='missing or not a readable image'):
            of_file(data[:int(share * len(data))], tmp_path)


def test_numbers_that_are_no_colours_are_refused(tmp_path):
    data = cv2.imencode('.tiff', RGB.astype(np.float32))[1].tobytes()
    with pytest.raises(AprlocError, match='image: the image has samples of float32; write it with 8 or 16 bits'):
        of_file(data, tmp_path)


def test_the_size_is_that_of_the_sensor_whatever_exif_says(tmp_path):
    turned = b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0'
    data = encoded('.jpg')
    data = data[:2] + b'\xff\xe1' + struct.pack('>H', len(turned) + 2) + turned + data[2:]
    assert of_file(data, tmp_path).shape == RGB.shape
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (24, 16, 3)   # it is turned


def test_localize_refuses_half_an_image(tmp_path, tiny_map, capsys):
    (tmp_path / 'half.jpg').write_bytes(encoded('.jpg', photograph())[:2000])
    assert main(['localize', str(tmp_path / 'half.jpg'), '--map', tiny_map.name, '--map-dir', str(tiny_map.parent)]) == 1
    assert 'half.jpg: the image of 128x96 is damaged or ends early' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['gone.jpg', '.'])
def test_what_is_not_there_says_so(tmp_path, name):
    with pytest.raises(AprlocError, match='missing or not a readable image'):
        read_image(tmp_path / name)


def jpeg_of(width, height):
    data = bytearray(encoded('.jpg'))
    at = data.index(b'\xff\xc0')
    data[at + 5:at + 9] = struct.pack('>HH', height, width)
    return bytes(data)


def png_of(width, height):
    data = bytearray(encoded('.png'))
    data[16:24] = struct.pack('>II', width, height)
    return bytes(data)


@pytest.mark.parametrize('make', [jpeg_of, png_of])
def test_a_size_over_the_limit_is_seen_in_the_header(make):
    with pytest.raises(AprlocError, match='60000x60000'):
        decode_image(compressed(make(60000, 60000)), MAX_IMAGE_BYTES)
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
