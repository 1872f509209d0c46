"""COLMAP models, written as text here and as binary by pycolmap, a second implementation."""

import numpy as np
import pytest
from capture_fixtures import (
    HEIGHT,
    WIDTH,
    make_scene,
    picture,
    pixels,
    quaternion,
    refused,
    replace_line,
    rotation,
    write_picture,
)

from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.intrinsics import PARAMETERS

# Parameters of each model, in COLMAP's order.
MODELS = {
    'SIMPLE_PINHOLE': [30, 16.2, 11.9],
    'PINHOLE': [30, 31, 16.2, 11.9],
    'SIMPLE_RADIAL': [30, 16.2, 11.9, 0.05],
    'RADIAL': [30, 16.2, 11.9, 0.05, -0.02],
    'OPENCV': [30, 31, 16.2, 11.9, 0.05, -0.02, 0.003, -0.002],
    'OPENCV_FISHEYE': [30, 31, 16.2, 11.9, 0.02, -0.01, 0.003, -0.001],
    'FULL_OPENCV': [30, 31, 16.2, 11.9, 0.05, -0.02, 0.003, -0.002, 0.01, 0.02, -0.01, 0.005],
    'SIMPLE_RADIAL_FISHEYE': [30, 16.2, 11.9, 0.02],
    'RADIAL_FISHEYE': [30, 16.2, 11.9, 0.02, -0.01],
}
COUNT = 24


@pytest.fixture
def scene():
    return make_scene(COUNT)


@pytest.fixture
def root(tmp_path, scene):
    return write(tmp_path / 'place', scene, 'PINHOLE')


def name(index: int) -> str:
    return f'video/frame_{index}.png'


def seen_by(point: int) -> set[int]:
    return {point, (point + 5) % COUNT, (point + 11) % COUNT}


def write(root, scene, model: str):
    """The text form, in sparse/0, images listed backwards and with odd ids."""
    folder = root / 'sparse' / '0'
    folder.mkdir(parents=True)
    (folder / 'cameras.txt').write_text(
        f'# Camera list\n7 {model} {WIDTH} {HEIGHT} {" ".join(map(str, MODELS[model]))}\n')
    lines = ['# Image list', '#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME']
    for index in reversed(range(COUNT)):
        T = scene.T_cam_world[index]
        write_picture(root / 'images' / name(index), index)
        values = ' '.join(repr(float(value)) for value in [*quaternion(T[:3, :3]), *T[:3, 3]])
        xy = formula(model, MODELS[model], scene.points @ T[:3, :3].T + T[:3, 3])
        observed = [f'{xy[p, 0]} {xy[p, 1]} {100 + p}' for p in range(len(scene.points)) if index in seen_by(p)]
        lines += [f'{index + 3} {values} 7 {name(index)}', ' '.join(['9.5 9.5 -1', *observed])]
    (folder / 'images.txt').write_text('\n'.join(lines) + '\n')
    points = ['# 3D point list']
    for p, X in enumerate(scene.points):
        earlier = {index: sum(index in seen_by(q) for q in range(p)) for index in sorted(seen_by(p))}
        track = ' '.join(f'{index + 3} {1 + place}' for index, place in earlier.items())
        points.append(f'{100 + p} {" ".join(map(repr, X.tolist()))} 9 9 9 0.5 {track}')
    (folder / 'points3D.txt').write_text('\n'.join(points) + '\n')
    return root


def formula(model: str, p: list[float], in_camera: np.ndarray) -> np.ndarray:
    """The projections of colmap/sensor/models.h, the top-left pixel's centre at (0.5, 0.5)."""
    u, v = (in_camera[:, :2] / in_camera[:, 2:]).T
    two_focal_lengths = model in ('PINHOLE', 'OPENCV', 'OPENCV_FISHEYE', 'FULL_OPENCV')
    fx, fy, cx, cy, *k = p if two_focal_lengths else [p[0], *p]
    r2 = u * u + v * v
    if model.endswith('FISHEYE'):
        r = np.sqrt(r2)
        theta = np.arctan(r)
        k = [*k, 0, 0, 0, 0]
        bent = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
        return np.stack([fx * u * bent / r + cx, fy * v * bent / r + cy], -1)
    k1, k2, p1, p2, k3, k4, k5, k6 = [*k, *[0] * 8][:8]
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    x = u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u)
    y = v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v * v)
    return np.stack([fx * x + cx, fy * y + cy], -1)


def check_projection(root, scene, model: str):
    capture = read_capture(root)
    assert capture.format == 'colmap'
    for frame in capture.train + capture.test:
        index = int(frame.name.split('_')[1].split('.')[0])
        T = scene.T_cam_world[index]
        expected = formula(model, MODELS[model], scene.points @ rotation(quaternion(T[:3, :3])).T + T[:3, 3])
        np.testing.assert_allclose(pixels(frame, scene.points), expected - 0.5, atol=1e-9)
        np.testing.assert_array_equal(frame.read_image(), picture(index))
    return capture


@pytest.mark.parametrize('model', MODELS)
def test_text_model(tmp_path, scene, model):
    check_projection(write(tmp_path / 'place', scene, model), scene, model)


@pytest.mark.parametrize('model', MODELS)
def test_binary_model_written_by_colmap_itself(tmp_path, scene, model):
    pycolmap = pytest.importorskip('pycolmap')
    root = write(tmp_path / 'place', scene, model)
    text = read_capture(root)
    folder = root / 'sparse' / '0'
    pycolmap.Reconstruction(str(folder)).write_binary(str(folder))
    for file in folder.glob('*.txt'):
        file.unlink()
    binary = check_projection(root, scene, model)
    assert [frame.name for frame in binary.train] == [frame.name for frame in text.train]
    assert {tuple(pair) for pair in binary.points.observations.tolist()} == {
        tuple(pair) for pair in text.points.observations.tolist()}
    np.testing.assert_array_equal(binary.points.xyz, text.points.xyz)


def test_points_are_those_of_two_training_frames(root, scene):
    capture = read_capture(root)
    by_index = {int(frame.name.split('_')[1].split('.')[0]): place for place, frame in enumerate(capture.train)}
    expected = {p: {by_index[i] for i in seen_by(p) if i in by_index} for p in range(len(scene.points))}
    expected = [(p, seen) for p, seen in expected.items() if len(seen) >= 2]
    np.testing.assert_array_equal(capture.points.xyz, scene.points[[p for p, _ in expected]])
    assert {tuple(pair) for pair in capture.points.observations.tolist()} == {
        (frame, row) for row, (_, seen) in enumerate(expected) for frame in seen}


def test_frames_are_in_natural_order_and_neighbours_of_test_frames_are_left_out(root):
    capture = read_capture(root)
    train, test = ([int(frame.name.split('_')[1].split('.')[0]) for frame in frames]
                   for frames in (capture.train, capture.test))
    assert train == sorted(train) and test == list(range(test[0], test[0] + len(test)))
    assert min(abs(i - j) for i in train for j in test) > 1


def test_model_and_images_may_lie_in_one_folder(root):
    for file in (root / 'sparse' / '0').iterdir():
        file.rename(root / file.name)
    (root / 'images' / 'video').rename(root / 'video')
    assert read_capture(root).format == 'colmap'


@pytest.mark.parametrize('number, line, parts', [
    (3, '26 1 0 0 0 0 nan 0 7 video/frame_23.png', ('images.txt:3', 'NaN')),
    (3, '26 1 1 0 0 0 0 0 7 video/frame_23.png', ('images.txt:3', 'not a rotation')),
    (3, '26 1 0 0 0 0 0 0 7 video/none.png', ('images.txt:3', 'missing')),
    (3, '26 1 0 0 0 0 0 0 8 video/frame_23.png', ('images.txt:3', 'camera 8')),
    (3, '26 1 0 0 0 0 0 0 7 video/frame_22.png', ('images.txt', 'already')),
    (3, '26 1 0 0 0 0 0 7', ('images.txt:3', 'truncated')),
    (3, '26 1 0 0 x 0 0 0 7 video/frame_23.png', ('images.txt:3', "'x'")),
    (4, '1 2 100 1', ('images.txt:4', 'truncated')),
    (4, '1 2 999', ('images.txt:3', 'point 999')),
    (50, None, ('images.txt:49', 'truncated')),
])
def test_broken_images_are_refused(root, number, line, parts):
    replace_line(root / 'sparse/0/images.txt', number, line)
    refused(root, *parts)


@pytest.mark.parametrize('line, parts', [
    ('7 FOV 32 24 30 30 16 12 0.1', ('cameras.txt:2', 'FOV', 'image_undistorter')),
    ('7 PINHOLE 32 24 30 16 12', ('cameras.txt:2', 'fx fy cx cy')),
    ('7 PINHOLE 32', ('cameras.txt:2', 'truncated')),
    ('7 PINHOLE 32 24 -30 30 16 12', ('cameras.txt:2', 'fx=-30')),
    ('7 PINHOLE 32.5 24 30 30 16 12', ('cameras.txt:2', "'32.5'")),
])
def test_broken_cameras_are_refused(root, line, parts):
    replace_line(root / 'sparse/0/cameras.txt', 2, line)
    refused(root, *parts)


def test_broken_points_are_refused(root):
    replace_line(root / 'sparse/0/points3D.txt', 2, '100 1 2')
    refused(root, 'points3D.txt:2', 'truncated')


def test_truncated_binary_is_refused_with_the_byte(root):
    pycolmap = pytest.importorskip('pycolmap')
    folder = root / 'sparse' / '0'
    pycolmap.Reconstruction(str(folder)).write_binary(str(folder))
    for kind in ('points3D', 'images', 'cameras'):
        content = (folder / f'{kind}.bin').read_bytes()
        for length in (3, len(content) // 2, len(content) - 1):
            (folder / f'{kind}.bin').write_bytes(content[:length])
            refused(root, f'{kind}.bin', f'truncated: {length} bytes', 'byte')


def test_empty_image_and_empty_model_are_refused(root):
    (root / 'images' / name(4)).write_bytes(b'')
    refused(root, 'images.txt:41', '0 bytes')
    (root / 'sparse/0/images.txt').write_text('# nothing\n')
    refused(root, 'images.txt', 'no image')


def more_models(root, counts: dict[str, int]):
    """sparse/0 again under other names, each with its first images alone."""
    model = root / 'sparse' / '0'
    lines = (model / 'images.txt').read_text().splitlines()
    for name, count in counts.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in ('cameras.txt', 'points3D.txt'):
            (folder / file).write_text((model / file).read_text())
        (folder / 'images.txt').write_text('\n'.join(lines[:2 + 2 * count]) + '\n')


def names_of(capture) -> set:
    return {frame.name for frame in (*capture.train, *capture.test)}


@pytest.mark.parametrize('binary', [False, True])
def test_the_larger_model_is_taken_and_the_others_are_named(root, binary):
    more_models(root, {'sparse/1': 24, 'sparse/10': 9, 'sparse/0': 9})
    if binary:
        pycolmap = pytest.importorskip('pycolmap')
        folder = root / 'sparse' / '1'
        pycolmap.Reconstruction(str(folder)).write_binary(str(folder))
        for file in folder.glob('*.txt'):
            file.unlink()
    capture = read_capture(root)
    assert len(names_of(capture)) > 15
    note, = (note for note in capture.notes if 'COLMAP models' in note)
    assert 'sparse/1 with 24' in note and 'sparse/0 with 9' in note and 'sparse/10 with 9' in note
    assert f'"model: FOLDER" into {root / "capture.yaml"}' in note
    (root / 'capture.yaml').write_text('model: sparse\\0\n')
    chosen = read_capture(root)
    assert len(names_of(chosen)) <= 9 and any('15 of 24 images' in note for note in chosen.notes)
    by_path = read_capture(root / 'sparse' / '0')
    assert names_of(by_path) == names_of(chosen) and (by_path.name, by_path.root) == (root.name, root)
    (root / 'capture.yaml').write_text('model: sparse/2\n')
    refused(root, 'sparse/2', 'sparse/10')


@pytest.mark.parametrize('damage', ['missing', 'empty', 'unobserved'])
def test_poses_suffice_without_points(root, damage):
    file = root / 'sparse/0/points3D.txt'
    if damage == 'missing':
        file.unlink()
    elif damage == 'empty':
        file.write_text('# 3D point list\n')
    else:
        images = root / 'sparse/0/images.txt'
        lines = images.read_text().splitlines()
        lines[3::2] = [''] * len(lines[3::2])
        images.write_text('\n'.join(lines) + '\n')
    capture = read_capture(root)
    assert capture.points is None and len(names_of(capture)) > 15
    assert any('triangulates' in note for note in capture.notes)


@pytest.mark.parametrize('scaled', ['poses', 'cameras'])
def test_points_that_poses_and_cameras_do_not_put_where_they_were_seen_are_not_used(root, scaled):
    """As after poses were brought to metres, or cameras to another size, by a script that knows no points."""
    folder = root / 'sparse' / '0'
    if scaled == 'poses':
        lines = (folder / 'images.txt').read_text().splitlines()
        for number in range(2, len(lines), 2):
            words = lines[number].split()
            lines[number] = ' '.join([*words[:5], *(str(2.5 * float(word)) for word in words[5:8]), *words[8:]])
        (folder / 'images.txt').write_text('\n'.join(lines) + '\n')
    else:
        (folder / 'cameras.txt').write_text(f'7 PINHOLE {WIDTH} {HEIGHT} 60 62 16.2 11.9\n')
    capture = read_capture(root)
    assert capture.points is None
    assert any('from where they were seen' in note and 'triangulates' in note for note in capture.notes)


def test_a_model_in_two_forms_that_differ_is_asked_about(root):
    pycolmap = pytest.importorskip('pycolmap')
    folder = root / 'sparse' / '0'
    pycolmap.Reconstruction(str(folder)).write_binary(str(folder))
    assert len(names_of(read_capture(root))) > 15
    replace_line(folder / 'images.txt', 3, '26 1 0 0 0 0.5 0 4 7 ' + name(23))
    refused(root, 'images.bin and images.txt differ (1 of 24 poses, first video/frame_23.png)', 'remove the .bin or the .txt')


def test_every_model_of_colmap_is_named_by_its_number():
    """So that one that is not understood is refused by its name, and none is taken for another."""
    pycolmap = pytest.importorskip('pycolmap')
    names = [name for name in dir(pycolmap.CameraModelId) if name.isupper() and name != 'INVALID']
    assert list(PARAMETERS) == sorted(names, key=lambda name: int(getattr(pycolmap.CameraModelId, name)))


@pytest.mark.parametrize('model', [name for name, parameters in PARAMETERS.items() if not parameters])
def test_models_that_are_not_understood_are_refused_by_name(root, model):
    replace_line(root / 'sparse/0/cameras.txt', 2, f'7 {model} 32 24 30 30 16 12 0.1 0 0 0 0 0 0 0')
    refused(root, 'cameras.txt:2', model, 'image_undistorter')
