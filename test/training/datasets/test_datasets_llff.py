"""LLFF's poses_bounds.npy."""

import numpy as np
import pytest
from capture_fixtures import FOCAL, HEIGHT, WIDTH, make_scene, picture, pixels, refused, write_picture

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets import read_capture

SCALE = 4   # the focal length is of the original images; those in the folder are smaller


@pytest.fixture
def scene():
    return make_scene(16)


@pytest.fixture
def root(tmp_path, scene):
    return write(tmp_path / 'fern', scene)


def write(root, scene):
    rows = []
    for index, T in enumerate(scene.T_world_cam):
        write_picture(root / 'images' / f'IMG_{4026 + index}.png', index)
        x, y, z, centre = T[:3].T
        matrix = np.stack([y, x, -z, centre, [HEIGHT * SCALE, WIDTH * SCALE, FOCAL * SCALE]], -1)
        rows.append([*matrix.ravel(), 1.2, 7.5])
    np.save(root / 'poses_bounds.npy', np.array(rows))
    return root


def test_projection_follows_the_published_convention(root, scene):
    """LLFF axes: columns down, right, backwards; pixels (r, c) from the image's centre."""
    capture = read_capture(root)
    assert capture.format == 'llff'
    table = np.load(root / 'poses_bounds.npy')[:, :15].reshape(-1, 3, 5)
    frames = {int(frame.name[4:8]) - 4026: frame for frame in capture.train + capture.test}
    for index, frame in frames.items():
        down, right, back, centre = table[index, :, :4].T
        offset = scene.points - centre
        depth = -offset @ back
        expected = FOCAL * np.stack([offset @ right / depth, offset @ down / depth], -1)
        expected += [WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5]
        np.testing.assert_allclose(pixels(frame, scene.points), expected, atol=1e-9)
        np.testing.assert_array_equal(frame.read_image(), picture(index))


def test_splits_share_no_frame(root):
    capture = read_capture(root)
    assert capture.train and capture.test
    assert not {frame.name for frame in capture.train} & {frame.name for frame in capture.test}


def break_row(index, change):
    def apply(root):
        table = np.load(root / 'poses_bounds.npy')
        change(table[index])
        np.save(root / 'poses_bounds.npy', table)
    return apply


def put(index, value):
    return lambda row: row.__setitem__(index, value)


@pytest.mark.parametrize('change, parts', [
    (break_row(3, put(3, np.nan)), ('poses_bounds.npy, row 4', 'NaN')),
    (break_row(3, put(slice(0, 3), 0)), ('poses_bounds.npy, row 4', 'not a rotation')),
    (break_row(3, put(14, -1)), ('poses_bounds.npy, row 4', 'positive')),
    (break_row(0, put(4, 10 * HEIGHT)), ('IMG_4026.png', '128x240', '32x24', 'another aspect')),
    (lambda root: (root / 'images' / 'IMG_4027.png').unlink(), ('16 rows but 15 images',)),
    (lambda root: (root / 'images' / 'IMG_4027.png').write_bytes(b''), ('poses_bounds.npy, row 2', '0 bytes')),
    (lambda root: (root / 'poses_bounds.npy').write_bytes(b'nothing'), ('poses_bounds.npy', 'not a readable')),
    (lambda root: (root / 'poses_bounds.npy').write_bytes((root / 'poses_bounds.npy').read_bytes()[:500]),
     ('poses_bounds.npy', 'not a readable')),
    (lambda root: np.save(root / 'poses_bounds.npy', np.zeros((16, 15))), ('(16, 15)', '[N, 17]')),
    (lambda root: np.save(root / 'poses_bounds.npy', np.array([{}]), allow_pickle=True), ('not a readable',)),
])
def test_broken_captures_are_refused(root, change, parts):
    change(root)
    refused(root, *parts)


def test_undecodable_image_is_refused_when_read(root):
    capture = read_capture(root)
    frame = capture.train[-1]
    frame.image_path.write_bytes(b'not an image')
    with pytest.raises(AprlocError, match=frame.image_path.name):
        frame.read_image()


def test_too_few_images_to_hold_some_out_are_refused(root):
    np.save(root / 'poses_bounds.npy', np.load(root / 'poses_bounds.npy')[:5])
    for image in sorted((root / 'images').iterdir())[5:]:
        image.unlink()
    refused(root, 'poses_bounds.npy', '5 posed images', 'at least 8')


@pytest.mark.parametrize('at', [10, 20, 40, 60])
def test_a_damaged_header_is_refused_in_one_line(root, at):
    file = root / 'poses_bounds.npy'
    content = file.read_bytes()
    for junk in (b'(', b'\n', b"'", b'\xff'):
        file.write_bytes(content[:at] + junk + content[at + 1:])
        try:
            read_capture(root)
        except AprlocError as error:
            assert str(error).startswith(str(file)) and '\n' not in str(error)
