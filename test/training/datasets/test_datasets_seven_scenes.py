"""7-Scenes with its own poses and with the SfM pseudo ground truth."""

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

CENTRE = [WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5]


def stem(index: int) -> str:
    return f'seq-{1 + index // 4:02d}/frame-{index % 4:06d}'


@pytest.fixture
def scene():
    return make_scene(12)


@pytest.fixture
def root(tmp_path, scene):
    return write(tmp_path / 'chess', scene)


def write(root, scene):
    """Sequences 1 and 3 train, sequence 2 tests."""
    for index, T in enumerate(scene.T_world_cam):
        write_picture(root / f'{stem(index)}.color.png', index)
        write_picture(root / f'{stem(index)}.depth.png', index)
        rows = '\n'.join('\t '.join(f'{value: .7e}' for value in row) + '\t ' for row in T)
        (root / f'{stem(index)}.pose.txt').write_text(rows + '\n')
    (root / 'TrainSplit.txt').write_text('sequence1\nsequence3\n')
    (root / 'TestSplit.txt').write_text('sequence2\n')
    return root


@pytest.fixture
def sfm_root(root, scene):
    return write_sfm(root, scene)


def write_sfm(root, scene):
    """Listed backwards, as the published files are not in order either."""
    lines = []
    for index, T in enumerate(scene.T_cam_world):
        values = ' '.join(f'{value:.9f}' for value in [*quaternion(T[:3, :3]), *T[:3, 3], 31.5])
        lines.append(f'{stem(index)}.color.png {values}')
    (root / 'chess_train.txt').write_text('\n'.join(reversed(lines[:4] + lines[8:])) + '\n')
    (root / 'chess_test.txt').write_text('\n'.join(reversed(lines[4:8])) + '\n')
    return root


def test_own_poses(root, scene):
    capture = read_capture(root)
    assert capture.format == '7scenes'
    assert [frame.name for frame in capture.train] == [f'{stem(i)}.color.png' for i in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert [frame.name for frame in capture.test] == [f'{stem(i)}.color.png' for i in range(4, 8)]
    for index, frame in zip((4, 5, 6, 7), capture.test):
        in_camera = (scene.points - scene.T_world_cam[index, :3, 3]) @ scene.T_world_cam[index, :3, :3]
        expected = 525 * WIDTH / 640 * in_camera[:, :2] / in_camera[:, 2:] + CENTRE
        np.testing.assert_allclose(pixels(frame, scene.points), expected, atol=1e-3)
        np.testing.assert_array_equal(frame.read_image(), picture(index))
        assert frame.sequence == 'seq-02'


def test_pseudo_ground_truth_is_taken_where_it_lies(sfm_root, scene):
    capture = read_capture(sfm_root)
    assert (capture.format, len(capture.train), len(capture.test)) == ('7scenes-sfm', 8, 4)
    for line in (sfm_root / 'chess_train.txt').read_text().splitlines():
        name, *values = line.split()
        values = [float(value) for value in values]
        frame, = (frame for frame in capture.train if frame.name == name)
        in_camera = scene.points @ rotation(values[:4]).T + values[4:7]
        expected = values[7] * in_camera[:, :2] / in_camera[:, 2:] + CENTRE
        np.testing.assert_allclose(pixels(frame, scene.points), expected, atol=1e-6)
    assert [frame.name for frame in capture.train[:2]] == [f'{stem(0)}.color.png', f'{stem(1)}.color.png']


def test_pseudo_ground_truth_may_lie_in_a_folder_of_its_own(sfm_root):
    (sfm_root / 'pgt').mkdir()
    for split in ('train', 'test'):
        (sfm_root / f'chess_{split}.txt').rename(sfm_root / 'pgt' / f'chess_{split}.txt')
    assert read_capture(sfm_root).format == '7scenes-sfm'


def test_only_registered_depth_is_taken(root):
    assert all(frame.depth_path is None for frame in read_capture(root).train)
    registered = root / f'{stem(1)}.depth.proj.png'
    write_picture(registered, 0)
    frames = read_capture(root).train
    assert frames[1].depth_path == registered and frames[1].depth_unit_m == 0.001
    assert frames[0].depth_path is None


@pytest.mark.parametrize('text, parts', [
    ('1 0 0 0\n0 1 0 nan\n0 0 1 0\n0 0 0 1\n', ('pose.txt:1', 'NaN')),
    ('1 0 0 0\n0 1 0 0\n0 0 -1 0\n0 0 0 1\n', ('pose.txt:1', 'not a rotation', 'det')),
    ('2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1\n', ('pose.txt:1', 'not a rotation')),
    ('1 0 0 0\n0 1 0 0\n0 0 1\n', ('pose.txt:3', '3 values where 4')),
    ('1 0 0 0\n0 1 0 0\n', ('pose.txt:2', 'truncated')),
    ('1 0 0 0\n0 one 0 0\n0 0 1 0\n0 0 0 1\n', ('pose.txt:2', "'one'")),
    ('', ('pose.txt', 'truncated')),
])
def test_broken_pose_file_is_refused(root, text, parts):
    (root / f'{stem(9)}.pose.txt').write_text(text)
    refused(root, stem(9), *parts)


def test_binary_rubbish_in_a_pose_file_is_refused(root):
    (root / f'{stem(9)}.pose.txt').write_bytes(b'\x80\xfe\x00\x80')
    refused(root, stem(9), 'not a text file')


def test_missing_and_empty_images_are_refused(root):
    (root / f'{stem(2)}.color.png').write_bytes(b'')
    refused(root, 'frame-000002.pose.txt:1', '0 bytes')
    (root / f'{stem(2)}.color.png').unlink()
    refused(root, 'frame-000002.pose.txt:1', 'missing')


@pytest.mark.parametrize('split, text, parts', [
    ('Train', '', ('TrainSplit.txt', 'training split is empty')),
    ('Test', '\n', ('TestSplit.txt', 'test split is empty')),
    ('Test', 'sequence9\n', ('TestSplit.txt:1', 'seq-09')),
    ('Test', 'sequence2\nsequence1\n', ('TestSplit.txt:2', 'TrainSplit.txt:1')),
    ('Test', 'seq-02\n', ('TestSplit.txt:1', 'sequence1')),
])
def test_broken_split_is_refused(root, split, text, parts):
    (root / f'{split}Split.txt').write_text(text)
    refused(root, *parts)


@pytest.mark.parametrize('line, parts', [
    ('seq-01/frame-000009.color.png 1 0 0 0 0 0 0 500', ('chess_train.txt:2', 'missing')),
    ('seq-01/frame-000000.color.png 1 0 0 0 0 nan 0 500', ('chess_train.txt:2', 'NaN')),
    ('seq-01/frame-000000.color.png 0 0 0 0 0 0 0 500', ('chess_train.txt:2', 'not a rotation')),
    ('seq-01/frame-000000.color.png 1 0 0 0 0 0 0', ('chess_train.txt:2', '8 values where 9')),
    ('seq-01/frame-000000.color.png 1 0 0 0 0 0 0 -5', ('chess_train.txt:2', 'focal length -5')),
    ('seq-03/frame-000003.color.png 1 0 0 0 0 0 0 500', ('chess_train.txt:2', 'chess_train.txt:1')),
])
def test_broken_pseudo_ground_truth_is_refused(sfm_root, line, parts):
    replace_line(sfm_root / 'chess_train.txt', 2, line)
    refused(sfm_root, *parts)


def test_pseudo_ground_truth_of_two_scenes_or_without_a_test_split_is_refused(sfm_root):
    (sfm_root / 'fire_train.txt').write_text('')
    refused(sfm_root, 'chess_train.txt', 'fire_train.txt')
    (sfm_root / 'fire_train.txt').unlink()
    (sfm_root / 'chess_test.txt').unlink()
    refused(sfm_root, 'chess_test.txt', 'cannot be read')
