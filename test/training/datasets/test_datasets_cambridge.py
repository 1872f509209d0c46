"""Cambridge Landmarks with its NVM reconstruction, written here in the archive's own form."""

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

HEADER = 'Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n'
TRAIN, TEST = range(9), range(9, 12)


def name(index: int) -> str:
    return f'seq{1 + index // 6}/frame{index:05d}.png'


def focal(index: int) -> float:
    return 30.0 + index


@pytest.fixture
def scene():
    return make_scene(12)


@pytest.fixture
def root(tmp_path, scene):
    return write(tmp_path / 'ShopFacade', scene)


def write(root, scene, radial: float = 0.0):
    root.mkdir()
    lines = []
    for index, T in enumerate(scene.T_world_cam):
        write_picture(root / name(index), index)
        q = quaternion(T[:3, :3].T)
        lines.append(' '.join([name(index), *map(repr, map(float, [*T[:3, 3], *q]))]))
    (root / 'dataset_train.txt').write_text(HEADER + '\n'.join(lines[i] for i in TRAIN) + '\n')
    (root / 'dataset_test.txt').write_text(HEADER + '\n'.join(lines[i] for i in TEST) + '\n')
    cameras = []
    for index, T in enumerate(scene.T_world_cam):
        numbers = ' '.join(repr(float(v)) for v in [focal(index), *quaternion(T[:3, :3].T), *T[:3, 3], radial])
        cameras.append(f'{name(index).replace(".png", ".jpg")}\t{numbers} 0')
    points = []
    for p, X in enumerate(scene.points):
        views = seen_by(p)
        measured = ' '.join(f'{v} {p} 1.5 -2.5' for v in views)
        points.append(f'{" ".join(map(repr, X.tolist()))} 10 20 30 {len(views)} {measured}')
    (root / 'reconstruction.nvm').write_text(
        'NVM_V3 \n\n' + f'{len(cameras)}\n' + '\n'.join(cameras) + f'\n\n{len(points)}\n' + '\n'.join(points)
        + '\n\n\n0\n\n#the last part of NVM file points to the PLY files\n')
    return root


def seen_by(point: int) -> list[int]:
    """Points 0 and 1 are seen by at most one training image; the others by a few of both splits."""
    return [[9, 10, 11], [0, 10]][point] if point < 2 else sorted({point % 9, (point + 4) % 9, 9 + point % 3})


def test_projection_follows_the_published_convention(root, scene):
    capture = read_capture(root)
    assert (capture.format, len(capture.train), len(capture.test)) == ('cambridge', 9, 3)
    lines = (root / 'dataset_train.txt').read_text().splitlines()[3:]
    for index, line in enumerate(lines):
        frame = capture.train[index]
        values = [float(word) for word in line.split()[1:]]
        in_camera = (scene.points - values[:3]) @ rotation(values[3:]).T
        expected = focal(index) * in_camera[:, :2] / in_camera[:, 2:] + [WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5]
        np.testing.assert_allclose(pixels(frame, scene.points), expected, atol=1e-6)
        np.testing.assert_array_equal(frame.read_image(), picture(index))
        assert frame.sequence == f'seq{1 + index // 6}'


def test_radial_distortion_is_that_of_the_measurement(tmp_path, scene):
    radial = -0.05
    capture = read_capture(write(tmp_path / 'Distorted', scene, radial))
    for index, frame in enumerate(capture.train):
        measured = (pixels(frame, scene.points) - [WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5]) / focal(index)
        undistorted = measured * (1 + radial * (measured ** 2).sum(-1, keepdims=True))
        T = scene.T_cam_world[index]
        in_camera = scene.points @ T[:3, :3].T + T[:3, 3]
        np.testing.assert_allclose(undistorted, in_camera[:, :2] / in_camera[:, 2:], atol=1e-5)


def test_points_and_what_training_frames_saw(root, scene):
    capture = read_capture(root)
    np.testing.assert_allclose(capture.points.xyz.numpy(), scene.points[2:])
    expected = {(view, point - 2) for point in range(2, len(scene.points)) for view in seen_by(point) if view < 9}
    assert {tuple(pair) for pair in capture.points.observations.tolist()} == expected


def test_points_in_another_frame_than_the_poses_are_not_taken(root):
    for split in ('train', 'test'):
        file = root / f'dataset_{split}.txt'
        lines = [line.split() for line in file.read_text().splitlines()[3:]]
        moved = [' '.join([words[0], str(float(words[1]) + 5), *words[2:]]) for words in lines]
        file.write_text(HEADER + '\n'.join(moved))
    assert read_capture(root).points is None


def test_image_outside_the_reconstruction_gets_the_median_focal_length(root):
    file = root / 'reconstruction.nvm'
    file.write_text(file.read_text().replace('seq1/frame00000.jpg', 'seq1/other.jpg'))
    assert read_capture(root).train[0].camera.fx == np.median([focal(index) for index in range(12)])


@pytest.mark.parametrize('line, parts', [
    ('seq1/missing.png 0 0 0 1 0 0 0', ('dataset_train.txt:5', 'missing')),
    ('seq1/frame00001.png nan 0 0 1 0 0 0', ('dataset_train.txt:5', 'NaN')),
    ('seq1/frame00001.png 0 0 0 nan 0 0 0', ('dataset_train.txt:5', 'NaN')),
    ('seq1/frame00001.png 0 0 0 1 1 0 0', ('dataset_train.txt:5', 'not a rotation', '1.414')),
    ('seq1/frame00001.png 0 0 0 1 0 0', ('dataset_train.txt:5', '7 values where 8')),
    ('seq1/frame00001.png 0 zero 0 1 0 0 0', ('dataset_train.txt:5', "'zero'")),
    ('seq1/frame00000.png 0 0 0 1 0 0 0', ('dataset_train.txt:5', 'dataset_train.txt:4', 'already')),
])
def test_broken_line_is_refused_with_file_and_line(root, line, parts):
    replace_line(root / 'dataset_train.txt', 5, line)
    refused(root, *parts)


def test_frame_of_both_splits_is_refused(root):
    replace_line(root / 'dataset_test.txt', 4, (root / 'dataset_train.txt').read_text().splitlines()[3])
    refused(root, 'dataset_test.txt:4', 'dataset_train.txt:4')


def test_empty_image_is_refused(root):
    (root / name(2)).write_bytes(b'')
    refused(root, 'dataset_train.txt:6', '0 bytes')


def test_empty_split_and_missing_files_are_refused(root):
    (root / 'dataset_test.txt').write_text(HEADER)
    refused(root, 'dataset_test.txt', 'empty')
    (root / 'dataset_test.txt').unlink()
    refused(root, 'dataset_test.txt', 'cannot be read')
    (root / 'reconstruction.nvm').unlink()
    refused(root, 'reconstruction.nvm', 'missing')


@pytest.mark.parametrize('change, parts', [
    (lambda lines: ['NVM_V2', *lines[1:]], ('reconstruction.nvm:1', 'NVM_V3')),
    (lambda lines: lines[:8], ('reconstruction.nvm', 'truncated')),
    (lambda lines: lines[:25], ('reconstruction.nvm', 'truncated')),
    (lambda lines: [*lines[:17], lines[17][:-6], *lines[18:]], ('reconstruction.nvm:18', 'truncated')),
    (lambda lines: [*lines[:17], '0 0 0 1 1 1 2 0 0 1 1 99 0 1 1', *lines[18:]], ('reconstruction.nvm:18', '0 to 11')),
    (lambda lines: [*lines[:4], lines[4].replace('\t31.0', '\t-31.0'), *lines[5:]], ('reconstruction.nvm:5', '-31.0')),
    (lambda lines: [*lines[:17], '0 0 0 1 1 1 1 0 0 300 1', *lines[18:]], ('32x24', '300', 'original images')),
])
def test_broken_reconstruction_is_refused(root, change, parts):
    file = root / 'reconstruction.nvm'
    file.write_text('\n'.join(change(file.read_text().splitlines())))
    refused(root, *parts)
