"""One table of camera_infos: the same camera or the same refusal from bags for build, from replay, node and files."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from drive_fixtures import COUNT, DriveBag, even_camera_pose, picture, stamp

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.command_line.using import read_camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import choose_topics, read_images
from aprloc_ros.recordings.camera_info import camera_from_info, read_camera_yaml
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.training.datasets import read_capture

WIDTH, HEIGHT = 64, 48
K = (50.0, 0.0, 32.5, 0.0, 51.0, 24.25, 0.0, 0.0, 1.0)
P = (48.0, 0.0, 31.0, 0.0, 0.0, 49.0, 23.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PLUMB = (-0.2, 0.05, 0.001, -0.002, 0.01)
RATIONAL = tuple(0.01 * i for i in range(1, 9))
FISHEYE = (0.1, 0.0, 0.0, 0.01)
PINHOLE = Camera(WIDTH, HEIGHT, 50, 51, 32.5, 24.25)


def lens(model, distortion):
    return Camera(WIDTH, HEIGHT, 50, 51, 32.5, 24.25, model, distortion)


# What a driver says -> the camera, or words of the refusal.
LENSES = {
    'plumb bob': ({}, lens('opencv', PLUMB)),
    'plumb bob of 4': ({'d': PLUMB[:4]}, lens('opencv', PLUMB[:4])),
    'plumb bob padded': ({'d': (*PLUMB, *[0.0] * 9)}, lens('opencv', PLUMB)),
    'plumb bob of 8': ({'d': RATIONAL}, '8 distortion coefficients; plumb_bob takes 5'),
    'plumb bob of 2': ({'d': PLUMB[:2]}, '2 distortion coefficients'),
    'plumb bob of 6': ({'d': (0.1,) * 6}, '6 distortion'),
    'plumb bob of none': ({'d': ()}, PINHOLE),
    'plumb bob of zeros': ({'d': (0.0,) * 5}, PINHOLE),
    'rational': ({'distortion_model': 'rational_polynomial', 'd': RATIONAL}, lens('opencv', RATIONAL)),
    'rational padded': ({'distortion_model': 'rational_polynomial', 'd': (*RATIONAL, *[0.0] * 6)},
                        lens('opencv', RATIONAL)),
    'rational of 5': ({'distortion_model': 'rational_polynomial', 'd': PLUMB}, lens('opencv', PLUMB)),
    'rational of 7': ({'distortion_model': 'rational_polynomial', 'd': (0.1,) * 7}, '7 distortion'),
    'thin prism': ({'distortion_model': 'rational_polynomial', 'd': (0.1,) * 12}, '12 distortion'),
    'tilted': ({'distortion_model': 'rational_polynomial', 'd': (0.1,) * 14}, '14 distortion'),
    'rational of zeros': ({'distortion_model': 'rational_polynomial', 'd': (0.0,) * 14}, PINHOLE),
    'equidistant': ({'distortion_model': 'equidistant', 'd': FISHEYE}, lens('fisheye', FISHEYE)),
    'equidistant of zeros': ({'distortion_model': 'equidistant', 'd': (0.0,) * 4}, lens('fisheye', (0.0,) * 4)),
    'equidistant padded': ({'distortion_model': 'equidistant', 'd': (*FISHEYE, 0.0)}, lens('fisheye', FISHEYE)),
    'equidistant of 5': ({'distortion_model': 'equidistant', 'd': (*FISHEYE, 0.1)}, '5 distortion'),
    'equidistant of 1': ({'distortion_model': 'equidistant', 'd': (0.1,)}, '1 distortion'),
    'equidistant of none': ({'distortion_model': 'equidistant', 'd': ()}, '0 distortion'),
    'fisheye': ({'distortion_model': 'fisheye', 'd': FISHEYE}, lens('fisheye', FISHEYE)),
    'no model': ({'distortion_model': '', 'd': ()}, PINHOLE),
    'no model, zeros': ({'distortion_model': '', 'd': (0.0,) * 5}, PINHOLE),
    'no model, coefficients': ({'distortion_model': ''}, '5 distortion coefficients and no distortion model'),
    'unknown model': ({'distortion_model': 'thin_prism_fisheye'}, "'thin_prism_fisheye'; it must be one of plumb_bob"),
    'nan in d': ({'d': (math.nan,) * 5}, r'finite .*distortion \[nan'),
    'inf in d': ({'d': (math.inf, 0.0, 0.0, 0.0, 0.0)}, 'finite'),
    'uncalibrated': ({'k': (0.0,) * 9}, 'no calibration: its K is zero'),
    'no focal length down': ({'k': (50.0, 0, 32.5, 0, 0, 24.25, 0, 0, 1)}, 'no calibration'),
    'nan in k': ({'k': (math.nan, *K[1:])}, 'finite'),
    'inf in k': ({'k': (*K[:2], math.inf, *K[3:])}, 'finite'),
    'negative focal length': ({'k': (-50.0, *K[1:])}, 'positive'),
    'centre outside': ({'k': (50.0, 0, 70.5, 0, 51.0, 24.25, 0, 0, 1)}, 'camera_info has its principal point at 70.5'),
    'a share of the image': ({'k': (0.78, 0, 0.5, 0, 1.06, 0.5, 0, 0, 1)}, 'in pixels'),
    'millimetres': ({'k': (3.5, 0, 32.5, 0, 3.5, 24.25, 0, 0, 1)}, 'fx = 3.5 for 64 pixels'),
    'sides exchanged': ({'k': (20.0, 0, 32.5, 0, 51.0, 24.25, 0, 0, 1)}, 'their ratio'),
    'skewed': ({'k': (50.0, 0.3, *K[2:])}, r'\[fx 0 cx; 0 fy cy; 0 0 1\]'),
    'columns for rows': ({'k': (50.0, 0, 0, 0, 51.0, 0, 32.5, 24.25, 1)}, r'\[fx 0 cx; 0 fy cy; 0 0 1\]'),
}
SENSORS = {
    'no width': ({'width': 0}, '0x48'), 'no height': ({'height': 0}, '64x0'), 'huge': ({'width': 2**31}, 'outside 1 to'),
    'binned': ({'width': 128, 'height': 96, 'binning_x': 2, 'binning_y': 2},
               Camera(64, 48, 25, 25.5, 16.0, 11.875, 'opencv', PLUMB)),
    'binned by 1': ({'binning_x': 1, 'binning_y': 1}, lens('opencv', PLUMB)),
    'binned to nothing': ({'binning_x': 1000}, '0x48'),
    'a region': ({'width': 128, 'height': 96, 'roi': (10, 20, 64, 48)},
                 Camera(64, 48, 50, 51, 22.5, 4.25, 'opencv', PLUMB)),
    'a region that is all': ({'roi': (0, 0, 64, 48)}, lens('opencv', PLUMB)),
    'a binned region': ({'width': 256, 'height': 192, 'roi': (10, 20, 128, 96), 'binning_x': 2, 'binning_y': 2},
                        Camera(64, 48, 25, 25.5, 11.0, 1.875, 'opencv', PLUMB)),
    'a region beside the centre': ({'width': 128, 'height': 96, 'roi': (60, 40, 64, 48)},
                                   Camera(64, 48, 50, 51, -27.5, -15.75, 'opencv', PLUMB)),
    'a region outside': ({'roi': (60, 0, 64, 48)}, 'outside its 64x48'),
    'a region without size': ({'roi': (1, 0, 0, 0)}, 'region'),
}
RECTIFIED = {
    'P': ({}, Camera(WIDTH, HEIGHT, 48, 49, 31, 23)),
    'P whatever the lens': ({'distortion_model': 'unheard_of'}, Camera(WIDTH, HEIGHT, 48, 49, 31, 23)),
    'the right one of two': ({'p': (*P[:3], -5.0, *P[4:])}, Camera(WIDTH, HEIGHT, 48, 49, 31, 23)),
    'no P': ({'p': (0.0,) * 12}, 'no calibration: its P is zero'),
    'a rectified region': ({'roi': (0, 0, 64, 48, True)}, 'do_rectify'),
}
TABLE = [pytest.param(changes, rectified, expected, id=name) for table, rectified in
         ((LENSES, False), (SENSORS, False), (RECTIFIED, True)) for name, (changes, expected) in table.items()]


def fields(changes):
    """All fields of a CameraInfo, as plain values."""
    left, top, width, height, do_rectify = (*changes.get('roi', (0, 0, 0, 0)), False)[:5]
    region = {'x_offset': left, 'y_offset': top, 'height': height, 'width': width, 'do_rectify': do_rectify}
    return {'height': HEIGHT, 'width': WIDTH, 'distortion_model': 'plumb_bob', 'd': PLUMB, 'k': K,
            'r': (1.0, 0, 0, 0, 1, 0, 0, 0, 1), 'p': P, 'binning_x': 0, 'binning_y': 0, **changes, 'roi': region}


def plain(changes):
    values = fields(changes)
    return SimpleNamespace(**{**values, 'roi': SimpleNamespace(**values['roi'])})


def from_fields(changes, rectified, tmp_path):
    return camera_from_info(plain(changes), rectified)


def write_bag(path, changes, rectified):
    values = fields(changes)
    topic = '/camera/image_rect' if rectified else '/camera/image_raw'
    with DriveBag(path) as bag:
        region = bag.make('sensor_msgs/msg/RegionOfInterest', *values['roi'].values())
        arrays = [np.array(values[name], float) for name in 'dkrp']
        bag.write('/camera/camera_info', bag.make(
            'sensor_msgs/msg/CameraInfo', bag.header(stamp(0), 'camera'), values['height'], values['width'],
            values['distortion_model'], *arrays, values['binning_x'], values['binning_y'], region), stamp(0))
        for index in range(COUNT):
            bag.image(stamp(index), picture(index), topic)
            bag.pose('/pose', stamp(index), even_camera_pose(stamp(index)))
    return path


def from_replay(changes, rectified, tmp_path):
    with open_recording(write_bag(tmp_path / 'bag', changes, rectified)) as recording:
        return next(read_images(recording, choose_topics(recording))).camera()


def from_build(changes, rectified, tmp_path):
    return read_capture(write_bag(tmp_path / 'bag', changes, rectified), tmp_path / 'cache').train[0].camera


def from_node(changes, rectified, tmp_path):
    pytest.importorskip('rclpy', reason='ROS is not installed')
    from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

    from aprloc_ros.ros.frames import read_picture
    from aprloc_ros.tracking.answer import FrameRejected

    values = fields(changes)
    info = CameraInfo(**{**values, 'roi': RegionOfInterest(**values['roi'])})
    setup = SimpleNamespace(parameters=SimpleNamespace(rectified=rectified, max_image_bytes=10**6, min_contrast=0.0),
                            extrinsics=lambda frame_id, time: None)
    image = Image(width=WIDTH, height=HEIGHT, encoding='rgb8', step=3 * WIDTH, data=picture(0).tobytes())
    try:
        return read_picture(image, info, setup).camera
    except FrameRejected as no:
        raise AprlocError(str(no)) from None


@pytest.mark.parametrize('read', [from_fields, from_replay, from_build, from_node])
@pytest.mark.parametrize('changes, rectified, expected', TABLE)
def test_every_reader_gives_the_same_verdict(tmp_path, read, changes, rectified, expected):
    if isinstance(expected, Camera):
        assert read(changes, rectified, tmp_path) == expected
        return
    with pytest.raises(AprlocError, match=expected) as caught:
        read(changes, rectified, tmp_path)
    with pytest.raises(AprlocError) as plainly:
        from_fields(changes, rectified, tmp_path)
    assert str(plainly.value) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('changes, expected', [pytest.param(*LENSES[name], id=name) for name in LENSES])
def test_a_calibration_file_is_read_alike(tmp_path, changes, expected):
    values = fields(changes)
    file = tmp_path / 'camera.yaml'
    file.write_text(yaml.safe_dump({
        'image_width': WIDTH, 'image_height': HEIGHT, 'camera_name': 'front',
        'distortion_model': values['distortion_model'],
        'camera_matrix': {'rows': 3, 'cols': 3, 'data': list(values['k'])},
        'distortion_coefficients': {'rows': 1, 'cols': len(values['d']), 'data': list(values['d'])}}))
    if isinstance(expected, Camera):
        assert read_camera_yaml(file) == expected == read_camera(str(file), WIDTH, HEIGHT)
        file.write_text(file.read_text(), encoding='utf-16')   # as Windows may write it
        assert read_camera_yaml(file) == expected
    else:
        with pytest.raises(AprlocError, match=expected) as caught:
            read_camera_yaml(file)
        assert str(caught.value).startswith(f'{file}: ')


def test_the_camera_of_an_image_is_scaled_to_it_or_refused(tmp_path):
    file = tmp_path / 'camera.yaml'
    file.write_text('image_width: 640\nimage_height: 480\ncamera_matrix: {data: [500, 0, 320, 0, 501, 240, 0, 0, 1]}\n'
                    'distortion_coefficients: {data: [0.1, 0, 0, 0, 0]}\n')
    assert read_camera(str(file), 320, 240) == read_camera_yaml(file).resized(320, 240)
    with pytest.raises(AprlocError, match='camera.yaml is of 640x480, the image 640x360, of another aspect'):
        read_camera(str(file), 640, 360)
    assert read_camera('500,501,320,240', 640, 480) == Camera(640, 480, 500, 501, 320, 240)
    for numbers, says in (('0.8,1.1,0.5,0.5', 'in pixels'), ('3.6,3.6,320,240', 'not millimetres'), ('500,500,900,240', 'outside the 640x480')):
        with pytest.raises(AprlocError, match=f'--camera has .*{says}'):
            read_camera(numbers, 640, 480)


REST = 'camera_matrix: {data: [500, 0, 320, 0, 501, 240, 0, 0, 1]}\ndistortion_coefficients: {data: [0.1, 0, 0, 0, 0]}\n'


@pytest.mark.parametrize('text', ['', '[1, 2]', 'image_width: 3', 'a: {', '\0', '\udcff', f'image_width: 640\n{REST}',
                                  f'image_width: wide\nimage_height: 480\n{REST}', f'image_width: .inf\nimage_height: 480\n{REST}'])
def test_a_file_that_is_no_calibration_says_so(tmp_path, text):
    (tmp_path / 'camera.yaml').write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(AprlocError, match='camera.yaml: needs image_width') as caught:
        read_camera_yaml(tmp_path / 'camera.yaml')
    assert '\n' not in str(caught.value)
    with pytest.raises(AprlocError, match='gone.yaml: needs'):
        read_camera_yaml(tmp_path / 'gone.yaml')


def test_a_region_of_interest_and_binning_see_the_same_rays():
    k = (500.0, 0.0, 320.5, 0.0, 510.0, 240.25, 0.0, 0.0, 1.0)
    sensor = {'width': 640, 'height': 480, 'k': k, 'roi': (100, 60, 320, 240), 'binning_x': 2, 'binning_y': 4}
    camera = camera_from_info(plain(sensor))
    assert (camera.width, camera.height) == (160, 60)
    # The pixel (10, 5) of the image averages 2x4 pixels of the sensor, whose centre is at:
    u, v = 100 + 2 * 10 + 0.5, 60 + 4 * 5 + 1.5
    assert (10 - camera.cx) / camera.fx == pytest.approx((u - k[2]) / k[0])
    assert (5 - camera.cy) / camera.fy == pytest.approx((v - k[5]) / k[4])


def test_the_camera_undistorts_as_opencv_does():
    k = (500.0, 0.0, 320.5, 0.0, 510.0, 240.25, 0.0, 0.0, 1.0)
    camera = camera_from_info(plain({'width': 640, 'height': 480, 'k': k}))
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    image = cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    expected = cv2.undistort(image, np.reshape(k, (3, 3)), np.array(PLUMB))
    difference = np.abs(warp_image(image, camera, camera.without_distortion()).astype(int) - expected)
    assert np.percentile(difference, 99) <= 2
