"""All that a source says put together: bags of the demo's drive with odometry, GPS and IMU, photos, distances."""

import math
from dataclasses import replace

import numpy as np
import pytest
from drive_fixtures import DriveBag
from metres_fixtures import MOUNT, TO_SFM, demo_drive, draws, posed, scale_error, up_error_deg
from tiny_map import CAMERA

from aprloc_ros.errors import AprlocError
from aprloc_ros.placement.geodesy import GeodeticOrigin, from_enu
from aprloc_ros.training.datasets.frame_file import read_frame, write_frame
from aprloc_ros.training.place.odometry import body_way, drifted
from aprloc_ros.training.posing.metres.choice import Wishes, find_metres
from aprloc_ros.training.posing.metres.distance import MEASURED_SD_M, measure_distance
from aprloc_ros.training.posing.metres.source import metres_of_source

START_S = 1_700_000_000.0
PLACE = GeodeticOrigin(-33.9, 151.2, 30.0)


@pytest.fixture(scope='module')
def drive():
    stamps_s, T_world_cam = demo_drive()
    return stamps_s, T_world_cam, body_way(stamps_s, T_world_cam, MOUNT)


def ns(stamp_s):
    return round((START_S + stamp_s) * 1e9)


@pytest.fixture(scope='module')
def bag(drive, tmp_path_factory):
    """An image, /tf_static, odometry with drift, silent odometry, GPS of 0.5 m and an IMU."""
    path = tmp_path_factory.mktemp('bags') / 'drive'
    _, _, way = drive
    odometry, noise = drifted(way, 0), 0.5 * draws(len(way.T_a_b), 3, seed=5)
    geodetic = from_enu(PLACE, way.T_a_b[:, :3, 3] + noise).tolist()
    felt = 9.81 * way.T_a_b[:, 2, :3] + 0.3 * draws(len(way.T_a_b), 3, seed=6)
    with DriveBag(path) as bag:
        bag.transform('/tf_static', 'base_link', 'camera_optical', MOUNT.numpy(), ns(0))
        bag.transform('/tf_static', 'base_link', 'imu', np.eye(4), ns(0))
        bag.image(ns(0), np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8))
        for index in range(0, len(way.T_a_b), 2):
            time_ns = ns(way.stamps_s[index].item())
            bag.pose('/odom', time_ns, odometry.T_a_b[index].numpy(), 'Odometry', 'odom', 'base_link')
            bag.pose('/silent', time_ns, np.eye(4), 'Odometry', 'odom', 'other')
            if index % 10 == 0:
                status = bag.make('sensor_msgs/msg/NavSatStatus', 0, 1)
                bag.write('/fix', bag.make('sensor_msgs/msg/NavSatFix', bag.header(time_ns, 'base_link'), status,
                                           *geodetic[index], np.zeros(9), 0), time_ns)
            vector = bag.make('geometry_msgs/msg/Vector3', *felt[index].tolist())
            zero, turn = bag.make('geometry_msgs/msg/Vector3', 0.0, 0.0, 0.0), bag.make('geometry_msgs/msg/Quaternion', 0.0, 0.0, 0.0, 1.0)
            bag.write('/imu', bag.make('sensor_msgs/msg/Imu', bag.header(time_ns, 'imu'), turn, np.zeros(9), zero, np.zeros(9), vector,
                                       np.zeros(9)), time_ns)
    return path


def images_of(drive, seed=0):
    stamps_s, T_world_cam, _ = drive
    images = posed(stamps_s, T_world_cam, 0.01, 0.002, seed)
    return replace(images, stamps_s=stamps_s + START_S)


def test_a_bag_gives_metres_by_its_odometry_north_by_gps_and_says_what_does_not_fit(drive, bag, tmp_path):
    images = images_of(drive)
    wishes = Wishes(distance=('0010', '0060', 3.0), origin='0100')
    found = metres_of_source(images.names, images.stamps_s.tolist(), images.T_map_cam, (), bag.parent, bag, wishes)
    text = '\n'.join(found.lines)
    assert 'metres from odometry /odom' in text and '/silent is silent' in text and 'IMU /imu' in text
    assert 'CONTRADICTION: 3 m from 0010 to 0060' in text
    assert abs(scale_error(found.change)) < 0.005
    assert up_error_deg(found.change) < 0.3
    R = found.change.rotation @ TO_SFM.rotation   # of the world, whose x is east
    assert abs(math.degrees(math.atan2(R[1, 0] - R[0, 1], R[0, 0] + R[1, 1]))) < 1
    moved = found.change.apply(images.T_map_cam)
    assert moved[100, :3, 3].norm() < 1e-9
    here = from_enu(PLACE, drive[1][100, :3, 3])
    assert found.frame.geodetic.latitude_deg == pytest.approx(here[0].item(), abs=1e-5)
    write_frame(tmp_path, found.frame)
    assert read_frame(tmp_path) == found.frame


def test_without_any_source_the_unit_is_arbitrary_and_up_is_the_cameras(drive, tmp_path):
    images = images_of(drive)
    images = replace(images, paths=(_photo(tmp_path / 'photo.png'),) * len(images.names))
    found = find_metres(images, None)
    assert found.frame.unit == 'arbitrary' and found.change.scale == 1 and found.change.scale_sd == math.inf
    assert 'ARBITRARY, not the metre' in '\n'.join(found.lines)
    assert up_error_deg(found.change) < 0.6
    ahead = found.change.apply(images.T_map_cam)[0, :3, 2]
    assert ahead[0] > 0.9 and abs(ahead[1]) < 1e-9


def _photo(path):
    from PIL import Image
    Image.new('RGB', (8, 6)).save(path)
    return path


def test_a_distance_gives_the_scale_and_its_deviation_is_right(drive, tmp_path):
    stamps_s, T_world_cam, _ = drive
    true_m = (T_world_cam[10, :3, 3] - T_world_cam[60, :3, 3]).norm().item()
    squares = []
    for seed in range(60):
        images = posed(stamps_s, T_world_cam, 0.02, 0.0, seed)
        measured_m = true_m + MEASURED_SD_M * draws(1, seed=5000 + seed).item()
        found = measure_distance(images, '0010.png', '0060', measured_m, position_sd=0.02 * TO_SFM.scale)
        squares.append((scale_error(found.change) / found.change.scale_sd) ** 2)
    assert 0.6 < sum(squares) / len(squares) < 1.6
    images = replace(images, paths=(_photo(tmp_path / 'photo.png'),) * len(images.names))
    found = find_metres(images, None, wishes=Wishes(distance=('0010', '0060', true_m)))
    assert found.frame.unit == 'metre' and 0 < found.frame.scale_sd < 0.01


def test_wishes_are_refused_before_anything_is_posed():
    with pytest.raises(AprlocError, match='the side of the tags is 0'):
        Wishes(tag_side_m=0.0)
    with pytest.raises(AprlocError, match='is nan m; it must be more than 0'):
        Wishes(distance=('a', 'b', math.nan))
    names = ('a.jpg', 'left/b.jpg', 'right/b.jpg')
    Wishes(distance=('a', 'left/b.jpg', 1.0), origin='a.jpg').check_names(names)
    for wishes in (Wishes(origin='c'), Wishes(distance=('a', 'b', 1.0))):
        with pytest.raises(AprlocError, match='no image, or several, of the name [bc]'):
            wishes.check_names(names)


def test_a_distance_that_says_nothing_is_refused(drive):
    images = images_of(drive)
    for wish, reason in ((('0010', '0010', 1.0), 'next to each other'), (('nobody', '0010', 1.0), 'no image, or several'),
                         (('0010', '0060', -1.0), 'must be more than 0'), (('0010', '0060', 0.05), 'leave the scale unsure by 20%')):
        with pytest.raises(AprlocError, match=reason):
            find_metres(images, None, wishes=Wishes(distance=wish))
