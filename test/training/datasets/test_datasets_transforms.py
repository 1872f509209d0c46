"""transforms.json of instant-ngp and nerfstudio."""

import json

import cv2
import numpy as np
import pytest
from capture_fixtures import FOCAL, HEIGHT, WIDTH, make_scene, picture, pixels, refused, write_picture
from PIL import Image

from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.files import tidy

COUNT = 24
OPENCV = {'camera_model': 'OPENCV', 'fl_x': FOCAL, 'fl_y': FOCAL + 1, 'cx': 16.4, 'cy': 11.8, 'w': WIDTH, 'h': HEIGHT,
          'k1': 0.05, 'k2': -0.02, 'p1': 0.003, 'p2': -0.002}


@pytest.fixture
def scene():
    return make_scene(COUNT)


@pytest.fixture
def root(tmp_path, scene):
    return write(tmp_path / 'fox', scene, OPENCV)


def name(index: int) -> str:
    return f'images/frame_{index:05d}.png'


def write(root, scene, shared: dict, own=lambda index: {}):
    """Frames listed backwards, as instant-ngp's own captures are in no order."""
    frames = []
    for index in reversed(range(COUNT)):
        write_picture(root / name(index), index)
        T_world_gl = scene.T_world_cam[index] * [1, -1, -1, 1]
        frames.append({'file_path': './' + name(index), 'transform_matrix': T_world_gl.tolist(), **own(index)})
    save(root, {**shared, 'frames': frames})
    return root


def save(root, meta: dict):
    (root / 'transforms.json').write_text(json.dumps(meta, indent=1))


def load(root) -> dict:
    return json.loads((root / 'transforms.json').read_text())


def index_of(frame) -> int:
    return int(frame.name[13:18])


def normalised(root, frame, points: np.ndarray) -> np.ndarray:
    """x right, y down in the image plane at distance 1, from the file's camera-to-world matrix with OpenGL axes."""
    entry, = (entry for entry in load(root)['frames'] if entry['file_path'].endswith(frame.name))
    matrix = np.array(entry['transform_matrix'])
    right, up, back, centre = matrix[:3].T
    offset = points - centre
    return np.stack([offset @ right, -(offset @ up)], -1) / -(offset @ back)[:, None]


def check_projection(root, scene, expected):
    """expected: normalised coordinates -> pixels, the top-left pixel's centre at (0.5, 0.5)."""
    capture = read_capture(root)
    assert capture.format == 'transforms'
    for frame in capture.train + capture.test:
        np.testing.assert_allclose(
            pixels(frame, scene.points), expected(normalised(root, frame, scene.points)) - 0.5, atol=1e-9)
        np.testing.assert_array_equal(frame.read_image(), picture(index_of(frame)))
    return capture


def brown(xy: np.ndarray, k3: float = 0.0) -> np.ndarray:
    """nerfstudio's OPENCV model with the coefficients of this test."""
    x, y = xy.T
    r2 = x * x + y * y
    radial = 1 + OPENCV['k1'] * r2 + OPENCV['k2'] * r2 ** 2 + k3 * r2 ** 3
    p1, p2 = OPENCV['p1'], OPENCV['p2']
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    v = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
    return np.stack([OPENCV['fl_x'] * u + OPENCV['cx'], OPENCV['fl_y'] * v + OPENCV['cy']], -1)


def test_opencv_intrinsics_of_the_capture(root, scene):
    check_projection(root, scene, brown)


def test_third_radial_coefficient(tmp_path, scene):
    check_projection(write(tmp_path / 'k3', scene, {**OPENCV, 'k3': 0.04}), scene, lambda xy: brown(xy, 0.04))


def test_intrinsics_of_each_frame_go_before_those_of_the_capture(tmp_path, scene):
    root = write(tmp_path / 'own', scene, {**OPENCV, 'fl_x': 1.0, 'fl_y': 1.0},
                 lambda index: {'fl_x': FOCAL, 'fl_y': FOCAL + 1})
    check_projection(root, scene, brown)


def test_fisheye(tmp_path, scene):
    shared = {'camera_model': 'OPENCV_FISHEYE', 'fl_x': FOCAL, 'fl_y': FOCAL, 'cx': 16, 'cy': 12, 'w': WIDTH,
              'h': HEIGHT, 'k1': 0.02, 'k2': -0.01, 'k3': 0.003, 'k4': -0.001}

    def expected(xy):
        r = np.linalg.norm(xy, axis=-1, keepdims=True)
        theta = np.arctan(r)
        bent = theta * (1 + 0.02 * theta**2 - 0.01 * theta**4 + 0.003 * theta**6 - 0.001 * theta**8)
        return FOCAL * xy / r * bent + [16, 12]
    check_projection(write(tmp_path / 'fisheye', scene, shared), scene, expected)


@pytest.mark.parametrize('shared', [
    {'camera_model': 'PINHOLE', 'fl_x': FOCAL, 'fl_y': FOCAL, 'cx': 16, 'cy': 12, 'w': WIDTH, 'h': HEIGHT},
    {'camera_model': 'SIMPLE_PINHOLE', 'fl_x': FOCAL, 'cx': 16, 'cy': 12, 'w': WIDTH, 'h': HEIGHT},
    {'camera_angle_x': 2 * np.arctan(WIDTH / 2 / FOCAL)},
])
def test_pinholes(tmp_path, scene, shared):
    root = write(tmp_path / 'pinhole', scene, shared)
    capture = check_projection(root, scene, lambda xy: FOCAL * xy + [16, 12])
    assert capture.train[0].camera.model == 'pinhole'


def test_own_split_is_kept_in_order_of_capture(root):
    meta = load(root)
    held = [name(index) for index in (3, 11, 17)]
    meta['train_filenames'] = ['./' + name(index) for index in reversed(range(COUNT)) if name(index) not in held]
    meta['test_filenames'] = held
    save(root, meta)
    capture = read_capture(root)
    assert [index_of(frame) for frame in capture.test] == [3, 11, 17]
    assert [index_of(frame) for frame in capture.train] == [i for i in range(COUNT) if name(i) not in held]


def test_validation_frames_test_where_there_is_no_test_split_and_never_train(root):
    meta = load(root)
    meta['train_filenames'] = [name(index) for index in range(10)]
    meta['val_filenames'] = [name(index) for index in (20, 21)]
    save(root, meta)
    assert [index_of(frame) for frame in read_capture(root).test] == [20, 21]
    meta['test_filenames'] = [name(15)]
    save(root, meta)
    capture = read_capture(root)
    assert [index_of(frame) for frame in capture.test] == [15]
    assert [index_of(frame) for frame in capture.train] == list(range(10))


def test_an_empty_list_of_test_frames_beside_validation_frames_is_none(root):
    """As some exporters of nerfstudio write it."""
    meta = load(root)
    names = [entry['file_path'] for entry in meta['frames']]
    save(root, {**meta, 'train_filenames': names[:8], 'val_filenames': names[8:], 'test_filenames': []})
    assert {frame.name for frame in read_capture(root).test} == set(map(tidy, names[8:]))


def test_an_angle_of_view_in_degrees_is_refused(root):
    """45 taken for radians would be a focal length that looks right."""
    meta = {key: value for key, value in load(root).items() if not key.startswith('fl_')}
    save(root, {**meta, 'camera_angle_x': 45.0})
    refused(root, '"camera_angle_x" is 45', 'radians')


def test_an_image_that_ends_early_is_refused_before_anything_is_built(root):
    file = root / 'images' / 'cut.jpg'
    Image.effect_noise((WIDTH, HEIGHT), 50).convert('RGB').save(file)
    file.write_bytes(file.read_bytes()[:-40])   # headers are whole
    meta = load(root)
    meta['frames'][5]['file_path'] = 'images/cut.jpg'
    save(root, meta)
    refused(root, 'cut.jpg', 'ends early')


def test_a_file_for_each_split_is_told_from_images_without_poses(root):
    (root / 'transforms.json').rename(root / 'transforms_train.json')
    refused(root, 'transforms_train.json', '"train_filenames"')


def test_depth_and_time_stamps(tmp_path, scene):
    def own(index):
        return {'depth_file_path': f'depth/{index}.png', 'timestamp': 10 - 0.1 * index}
    (tmp_path / 'rgbd' / 'depth').mkdir(parents=True)
    for index in range(COUNT):
        cv2.imwrite(str(tmp_path / 'rgbd' / 'depth' / f'{index}.png'), np.full((HEIGHT, WIDTH), 1000, np.uint16))
    root = write(tmp_path / 'rgbd', scene, {**OPENCV, 'depth_unit_scale_factor': 0.0002}, own)
    capture = read_capture(root)
    order = [index_of(frame) for frame in capture.train]
    assert order == sorted(order, reverse=True)     # by time, which runs against the names here
    for frame in capture.train:
        assert frame.depth_path == root / 'depth' / f'{index_of(frame)}.png' and frame.depth_unit_m == 0.0002
        assert frame.stamp_s == pytest.approx(10 - 0.1 * index_of(frame))
    (root / 'depth' / '5.png').unlink()
    refused(root, 'transforms.json:', 'depth/5.png', 'missing')


def test_the_file_itself_may_be_named_and_suffixes_may_be_left_out(root):
    meta = load(root)
    for entry in meta['frames']:
        entry['file_path'] = entry['file_path'].removesuffix('.png')
    save(root, meta)
    assert read_capture(root / 'transforms.json').train[0].image_path.suffix == '.png'


def line_of(root, frame: int) -> int:
    """The line of a frame's file_path."""
    lines = (root / 'transforms.json').read_text().splitlines()
    return [number for number, line in enumerate(lines, 1) if '"file_path"' in line][frame]


def put(key, value):
    return lambda entry: entry.__setitem__(key, value)


@pytest.mark.parametrize('change, parts', [
    (put('file_path', 'images/none.png'), ('none.png', 'missing')),
    (lambda entry: entry['transform_matrix'][0].__setitem__(3, float('nan')), ('NaN',)),
    (lambda entry: entry['transform_matrix'][0].__setitem__(0, 5.0), ('not a rotation',)),
    (lambda entry: entry['transform_matrix'].pop(), ()),
    (lambda entry: entry['transform_matrix'][1].pop(), ('transform_matrix', 'not a 4x4')),
    (put('transform_matrix', 'identity'), ('transform_matrix', 'not a 4x4')),
    (lambda entry: entry.pop('transform_matrix'), ('transform_matrix', 'missing')),
    (put('fl_x', 'wide'), ('"fl_x"', "'wide'")),
    (put('fl_x', -3.0), ('fx=-3.0',)),
    (put('camera_model', 'EQUIRECTANGULAR'), ('EQUIRECTANGULAR', 'PINHOLE')),
    (put('k4', 0.1), ('k4 = 0.1', 'fisheye')),
])
def test_broken_frame_is_refused_with_file_and_line(root, change, parts):
    meta = load(root)
    change(meta['frames'][5])
    save(root, meta)
    if parts:
        refused(root, f'transforms.json:{line_of(root, 5)}:', *parts)
    else:   # a 3x4 matrix says as much as a 4x4 one
        assert len(read_capture(root).train) > 0


@pytest.mark.parametrize('change, parts', [
    (lambda meta: meta['frames'].append(meta['frames'][0]), ('already',)),
    (lambda meta: meta['frames'].append('frame'), ('frame', '"file_path"')),
    (lambda meta: meta.pop('frames'), ('transforms.json:1', '"frames"')),
    (lambda meta: meta.pop('fl_x') and meta.pop('fl_y'), ('no focal length',)),
    (lambda meta: meta.update(train_filenames=[name(0)], test_filenames=[]), ('"test_filenames"', 'empty')),
    (lambda meta: meta.update(train_filenames=[name(0)]), ('"val_filenames"', 'missing')),
    (lambda meta: meta.update(train_filenames=[name(0)], test_filenames=['x.png']), ('x.png', 'not among')),
    (lambda meta: meta.update(train_filenames=[name(0)], test_filenames=[name(0)]), (name(0), 'already')),
])
def test_broken_capture_is_refused(root, change, parts):
    meta = load(root)
    change(meta)
    save(root, meta)
    refused(root, 'transforms.json', *parts)


def test_truncated_file_is_refused_with_the_line(root):
    text = (root / 'transforms.json').read_text()
    (root / 'transforms.json').write_text(text[:len(text) // 2])
    refused(root, f'transforms.json:{text[:len(text) // 2].count(chr(10)) + 1}', 'not JSON')


def test_empty_image_is_refused(root):
    (root / name(4)).write_bytes(b'')
    refused(root, f'transforms.json:{line_of(root, COUNT - 1 - 4)}', '0 bytes')
