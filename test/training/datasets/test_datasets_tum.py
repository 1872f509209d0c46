"""TUM RGB-D, and the interpolation of trajectories that bags share with it."""

import re

import cv2
import numpy as np
import pytest
import torch
from capture_fixtures import (
    HEIGHT,
    WIDTH,
    make_scene,
    picture,
    pixels,
    quaternion,
    refused,
    replace_line,
    write_picture,
)

from aprloc_ros.geometry import se3_exp
from aprloc_ros.recordings.trajectory import make_trajectory
from aprloc_ros.training.datasets import read_capture

COUNT = 24
START = 1305031100.0
PERIOD = 0.04


@pytest.fixture
def scene():
    return make_scene(COUNT)


@pytest.fixture
def root(tmp_path, scene):
    return write(tmp_path / 'rgbd_dataset_mine', scene)


def write(root, scene):
    """Ground truth exactly at the images' stamps, and depth 5 ms later for all but the first image."""
    rgb, depth, truth = ['# color images'], ['# depth maps'], ['# timestamp tx ty tz qx qy qz qw']
    for index, T in enumerate(scene.T_world_cam):
        stamp = START + PERIOD * index
        write_picture(root / f'rgb/{stamp:.6f}.png', index)
        rgb.append(f'{stamp:.6f} rgb/{stamp:.6f}.png')
        if index:
            write_picture(root / f'depth/{stamp + 0.005:.6f}.png', index)
            depth.append(f'{stamp + 0.005:.6f} depth/{stamp + 0.005:.6f}.png')
        w, x, y, z = quaternion(T[:3, :3])
        truth.append(' '.join([f'{stamp:.6f}', *(f'{value:.9f}' for value in [*T[:3, 3], x, y, z, w])]))
    for file, lines in (('rgb', rgb), ('depth', depth), ('groundtruth', truth)):
        (root / f'{file}.txt').write_text('\n'.join(lines) + '\n')
    (root / 'calibration.txt').write_text('30 31 15.4 11.2 0.05 -0.02 0.003 -0.002 0.01\n')
    return root


def index_of(frame) -> int:
    return round((frame.stamp_s - START) / PERIOD)


def test_names_may_hold_spaces(root, scene):
    before = [frame.stamp_s for frame in read_capture(root).train]
    (root / 'rgb').rename(root / 'my images')
    listing = root / 'rgb.txt'
    listing.write_text(listing.read_text().replace(' rgb/', ' my images/'))
    found = read_capture(root).train
    assert [frame.stamp_s for frame in found] == before and found[0].name.startswith('my images/')


@pytest.mark.parametrize('unit, per', [('milliseconds', 1e3), ('microseconds', 1e6), ('nanoseconds', 1e9)])
def test_stamps_in_another_unit_than_seconds_are_named(root, unit, per):
    listing = root / 'rgb.txt'
    listing.write_text(re.sub(r'^[0-9.]+', lambda stamp: f'{float(stamp[0]) * per:.0f}', listing.read_text(), flags=re.MULTILINE))
    refused(root, 'finite number of seconds', f'{unit} are to be divided by 1e{len(f"{per:.0f}") - 1}')


def test_projection_follows_the_published_convention(root, scene):
    """Poses are camera-to-world with OpenCV axes, the lens is OpenCV's plumb bob."""
    capture = read_capture(root)
    assert capture.format == 'tum' and capture.test
    for frame in capture.train + capture.test:
        T = scene.T_world_cam[index_of(frame)]
        x, y = ((scene.points - T[:3, 3]) @ T[:3, :3] / ((scene.points - T[:3, 3]) @ T[:3, 2:3])).T[:2]
        r2 = x * x + y * y
        radial = 1 + 0.05 * r2 - 0.02 * r2**2 + 0.01 * r2**3
        u = x * radial + 2 * 0.003 * x * y - 0.002 * (r2 + 2 * x * x)
        v = y * radial - 2 * 0.002 * x * y + 0.003 * (r2 + 2 * y * y)
        np.testing.assert_allclose(
            pixels(frame, scene.points), np.stack([30 * u + 15.4, 31 * v + 11.2], -1), atol=1e-5)
        np.testing.assert_array_equal(frame.read_image(), picture(index_of(frame)))


def test_depth_is_the_nearest_within_the_gap(root):
    frames = read_capture(root).train
    assert frames[0].depth_path is None
    for frame in frames[1:]:
        assert frame.depth_path.name == f'{frame.stamp_s + 0.005:.6f}.png'
        assert frame.depth_unit_m == pytest.approx(1 / 5000)


def test_images_without_ground_truth_are_left_out(root):
    truth = (root / 'groundtruth.txt').read_text().splitlines()
    # Without images 0 to 2 the trajectory begins late; without 8 to 17 it has a gap of 0.44 s, too long to bridge.
    (root / 'groundtruth.txt').write_text('\n'.join(truth[4:9] + truth[19:]) + '\n')
    capture = read_capture(root)
    known = {*range(3, 8), *range(18, COUNT)}
    assert {index_of(frame) for frame in capture.train + capture.test} <= known
    assert 3 in map(index_of, capture.train) and 23 in map(index_of, capture.train)


def test_interpolation_is_exact_on_a_motion_of_constant_velocity():
    twist = torch.tensor([0.0, 0, 0, 0.3, -0.5, 0.4], dtype=torch.float64)
    T = [se3_exp(twist * t) for t in (0.0, 1.0)]
    for k, pose in enumerate(T):
        pose[:3, 3] = torch.tensor([1.0, 2, 3]) * k
    trajectory = make_trajectory([10.0, 10.2], T)
    stamps = torch.tensor([10.0, 10.05, 10.2, 9.99, 10.21], dtype=torch.float64)
    poses, known = trajectory.at(stamps, 0.25)
    assert known.tolist() == [True, True, True, False, False]
    torch.testing.assert_close(poses[1, :3, :3], se3_exp(twist * 0.25)[:3, :3])
    torch.testing.assert_close(poses[1, :3, 3], torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    assert trajectory.at(stamps, max_gap_s=0.1)[1].tolist() == [True, False, True, False, False]
    single = make_trajectory([5.0], T[:1])
    assert single.at(torch.tensor([5.0, 5.1], dtype=torch.float64), 0.25)[1].tolist() == [True, False]


@pytest.mark.parametrize('folder, fx, k1', [
    ('rgbd_dataset_freiburg1_xyz', 517.3, 0.2624), ('rgbd_dataset_freiburg2_desk', 520.9, 0.2312),
    ('fr3_office', 535.4, None)])
def test_freiburg_cameras_are_known_by_the_folder(tmp_path, folder, fx, k1):
    root = write(tmp_path / folder, make_scene(COUNT))
    (root / 'calibration.txt').unlink()
    assert read_capture(root).train[0].camera.fx == pytest.approx(fx * WIDTH / 640)   # 32x24 is a smaller copy
    for image in (root / 'rgb').iterdir():
        cv2.imwrite(str(image), np.zeros((480, 640, 3), np.uint8))
    camera = read_capture(root).train[0].camera
    assert (camera.width, camera.height, camera.fx) == (640, 480, fx)
    assert camera.distortion[:1] == (() if k1 is None else (k1,))


def test_ros_camera_yaml(root):
    (root / 'camera.yaml').write_text(
        f'image_width: {WIDTH}\nimage_height: {HEIGHT}\ncamera_name: narrow\ncamera_matrix:\n  rows: 3\n  cols: 3\n'
        f'  data: [40., 0., 15., 0., 41., 11., 0., 0., 1.]\ndistortion_model: equidistant\n'
        f'distortion_coefficients:\n  rows: 1\n  cols: 4\n  data: [0.01, 0.02, 0.03, 0.04]\n')
    camera = read_capture(root).train[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (40, 41, 15, 11)
    assert (camera.model, camera.distortion) == ('fisheye', (0.01, 0.02, 0.03, 0.04))
    (root / 'camera.yaml').write_text('image_width: 32\n')
    refused(root, 'camera.yaml', 'camera_matrix')


def test_unknown_camera_says_what_to_write(root):
    (root / 'calibration.txt').unlink()
    refused(root, 'calibration.txt', 'fx fy cx cy', 'camera.yaml')


@pytest.mark.parametrize('file, number, line, parts', [
    ('rgb.txt', 3, '1305031100.04 rgb/none.png', ('rgb.txt:3', 'missing')),
    ('rgb.txt', 3, '1305031100.04', ('rgb.txt:3', '1 values where 2')),
    ('rgb.txt', 3, 'now rgb/1305031100.040000.png', ('rgb.txt:3', "'now'")),
    ('rgb.txt', 3, 'nan rgb/1305031100.040000.png', ('rgb.txt:3', 'nan', 'finite')),
    ('rgb.txt', 3, '1305031100.04 rgb/1305031100.000000.png', ('rgb.txt:3', 'rgb.txt:2')),
    ('depth.txt', 3, '1305031100.04 depth/none.png', ('depth.txt:3', 'missing')),
    ('rgb.txt', 3, '1305031100040000000 rgb/1305031100.040000.png', ('rgb.txt:3', '1.30503e+18', 'nanoseconds')),
    ('groundtruth.txt', 3, '1305031100040000000 0 0 0 0 0 0 1', ('groundtruth.txt:3', '1.30503e+18', 'nanoseconds')),
    ('groundtruth.txt', 3, '1305031100.04 0 0 nan 0 0 0 1', ('groundtruth.txt:3', 'NaN')),
    ('groundtruth.txt', 3, '1305031100.04 0 0 0 0 0 0 0.5', ('groundtruth.txt:3', 'not a rotation', '0.5')),
    ('groundtruth.txt', 3, '1305031100.04 0 0 0 0 0 0', ('groundtruth.txt:3', 'truncated')),
    ('groundtruth.txt', 3, '1305031100.000000 0 0 0 0 0 0 1', ('groundtruth.txt:3', 'groundtruth.txt:2')),
    ('calibration.txt', 1, '30 31 15', ('calibration.txt:1', 'fx fy cx cy')),
    ('calibration.txt', 1, '-30 31 15 11', ('calibration.txt:1', 'fx=-30')),
])
def test_broken_line_is_refused_with_file_and_line(root, file, number, line, parts):
    replace_line(root / file, number, line)
    refused(root, *parts)


@pytest.mark.parametrize('between', [',', ', ', ';'])
def test_what_separates_values_is_told(root, between):
    file = root / 'groundtruth.txt'
    file.write_text('\n'.join(line if line.startswith('#') else between.join(line.split()) for line in file.read_text().splitlines()))
    assert 'truncated' not in refused(root, 'groundtruth.txt', 'spaces must separate values')


def test_poses_that_come_seldom_are_named_where_too_few_images_have_one(root):
    file = root / 'groundtruth.txt'
    file.write_text('\n'.join(file.read_text().splitlines()[::20]))
    refused(root, 'images of rgb.txt are not used: groundtruth.txt has no pose at their time', 'posed images')


def test_foreign_clock_empty_list_empty_image_and_missing_truth_are_refused(root):
    truth = (root / 'groundtruth.txt').read_text()
    (root / 'groundtruth.txt').write_text(truth.replace('13050311', '99'))
    refused(root, 'groundtruth.txt', 'same clock')
    (root / 'groundtruth.txt').unlink()
    refused(root, 'no groundtruth.txt', 'aprloc pose')
    (root / f'rgb/{START:.6f}.png').write_bytes(b'')
    refused(root, 'rgb.txt:2', '0 bytes')
    (root / 'rgb.txt').write_text('# nothing\n')
    refused(root, 'rgb.txt', 'no image')
