"""Metres, north and the place on Earth from GPS: the demo's drive somewhere on Earth, with noise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from drive_fixtures import DriveBag
from metres_fixtures import MOUNT, TO_SFM, demo_drive, draws, posed, scale_error, up_error_deg
from PIL import Image

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose, so3_exp
from aprloc_ros.placement.geodesy import GeodeticOrigin, from_enu
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.truth import read_tf
from aprloc_ros.training.place.odometry import body_way
from aprloc_ros.training.posing.metres.gps import exif_position, fixes_at, fixes_of_bag, fixes_of_photos, measure_gps

ANTENNA = (invert(MOUNT) @ torch.tensor([0, 0, 0.8, 1.0], dtype=torch.float64))[:3]   # in the camera's axes
PLACE = GeodeticOrigin(52.52, 13.405, 80.0)   # of the world's origin, whose x is east


@pytest.fixture(scope='module')
def drive():
    stamps_s, T_world_cam = demo_drive()
    return stamps_s, T_world_cam, body_way(stamps_s, T_world_cam, MOUNT)


def fixes(way, noise_m, seed, rate_hz=10):
    """Stamps and fixes of an antenna above the base, twice as noisy upwards."""
    stride = round(20 / rate_hz)
    stamps_s, T = way.stamps_s[::stride].contiguous(), way.T_a_b[::stride]
    noise = noise_m * draws(len(T), 3, seed=seed) * torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)
    return stamps_s, from_enu(PLACE, T[:, :3, 3] + torch.tensor([0, 0, 0.8], dtype=torch.float64) + noise)


def heading_error_deg(change):
    R = change.rotation @ TO_SFM.rotation
    return math.degrees(math.atan2(R[1, 0].item() - R[0, 1].item(), R[0, 0].item() + R[1, 1].item()))


def test_exact_fixes_give_scale_north_and_place(drive):
    stamps_s, T_world_cam, way = drive
    found = measure_gps(fixes_at(*fixes(way, 0.0, 0), posed(stamps_s, T_world_cam), 'GPS'))
    assert abs(scale_error(found.change)) < 1e-3      # cameras are interpolated linearly between images half a second apart
    assert abs(heading_error_deg(found.change)) < 0.05
    here = from_enu(PLACE, T_world_cam[0, :3, 3])
    assert found.geodetic.latitude_deg == pytest.approx(here[0].item(), abs=1e-5)   # a metre
    assert found.geodetic.longitude_deg == pytest.approx(here[1].item(), abs=1e-5)
    assert found.change.apply(posed(stamps_s, T_world_cam).T_map_cam)[0, :3, 3].norm() < 0.05


def test_noise_of_a_metre_and_a_half_and_a_deviation_that_is_right(drive):
    stamps_s, T_world_cam, way = drive
    squares = []
    for seed in range(8):
        near = fixes_at(*fixes(way, 1.5, seed), posed(stamps_s, T_world_cam, 0.01, 0.002, seed), 'GPS')
        found = measure_gps(replace(near, lever=ANTENNA, lever_sd_m=0.01))
        assert abs(scale_error(found.change)) < 0.01
        assert abs(heading_error_deg(found.change)) < 1
        assert up_error_deg(found.change) < 0.6
        squares.append((scale_error(found.change) / found.change.scale_sd) ** 2)
    assert 0.25 < sum(squares) / len(squares) < 2.4   # 8 of a chi-square with one degree of freedom


def test_leaps_of_the_receiver_do_not_matter(drive):
    stamps_s, T_world_cam, way = drive
    when, geodetic = fixes(way, 0.5, 1)
    geodetic[100:180, 0] += 5e-4   # 56 m
    found = measure_gps(fixes_at(when, geodetic, posed(stamps_s, T_world_cam, 0.01), 'GPS'))
    assert abs(scale_error(found.change)) < 0.01


def slow(count, kept, seed):
    """[count, 3] of deviation 1, of each of which the next keeps a share."""
    anew = draws(count, 3, seed=seed) * math.sqrt(1 - kept ** 2)
    anew[0] /= math.sqrt(1 - kept ** 2)
    rows = [anew[0]]
    for row in anew[1:]:
        rows.append(kept * rows[-1] + row)
    return torch.stack(rows)


@pytest.mark.parametrize('lasts_s, off_m', [(5, 0.5), (120, 1.0)])
def test_a_receiver_that_errs_for_minutes_alike_is_no_surer_than_it_is_right(drive, lasts_s, off_m):
    stamps_s, T_world_cam, way = drive
    when, _ = fixes(way, 0.0, 0, rate_hz=5)
    antenna = way.T_a_b[::4][:, :3, 3] + torch.tensor([0, 0, 0.8], dtype=torch.float64)
    scales, headings = [], []
    for seed in range(8):
        noise = 0.1 * draws(len(when), 3, seed=seed) + off_m * slow(len(when), math.exp(-0.2 / lasts_s), seed)
        near = fixes_at(when, from_enu(PLACE, antenna + noise), posed(stamps_s, T_world_cam, 0.01, 0.002, seed), 'GPS')
        found = measure_gps(replace(near, lever=ANTENNA, lever_sd_m=0.01))
        scales.append((scale_error(found.change) / found.change.scale_sd) ** 2)
        headings.append((heading_error_deg(found.change) / float(found.text.partition('north to ')[2].split()[0])) ** 2)
    assert 0.1 < sum(scales) / len(scales) < 1.5 and 0.1 < sum(headings) / len(headings) < 1.5


def test_a_leap_that_stays_is_in_what_it_claims(drive):
    """An ambiguity that was solved wrongly half-way: there is nothing to tell which half is right."""
    stamps_s, T_world_cam, way = drive
    when, _ = fixes(way, 0.0, 0)
    antenna = way.T_a_b[::2][:, :3, 3] + torch.tensor([0, 0, 0.8], dtype=torch.float64) + 0.02 * draws(len(when), 3, seed=0)
    antenna[len(when) // 2:, 1] += 0.5
    near = fixes_at(when, from_enu(PLACE, antenna), posed(stamps_s, T_world_cam, 0.01), 'GPS')
    found = measure_gps(replace(near, lever=ANTENNA, lever_sd_m=0.01))
    assert abs(scale_error(found.change)) < 1.3 * found.change.scale_sd < 0.02


def test_what_is_too_coarse_or_of_another_clock_is_refused(drive):
    stamps_s, T_world_cam, way = drive
    images = posed(stamps_s, T_world_cam)
    with pytest.raises(AprlocError, match='too coarse for this drive'):
        measure_gps(fixes_at(*fixes(way, 30.0, 0), images, 'GPS'))
    when, geodetic = fixes(way, 1.5, 0)
    with pytest.raises(AprlocError, match='another clock'):
        fixes_at(when + 1e9, geodetic, images, 'GPS')
    with pytest.raises(AprlocError, match='6 fixes belong to images'):
        measure_gps(fixes_at(when[:6], geodetic[:6], images, 'GPS'))
    with pytest.raises(AprlocError, match='GPS is silent'):
        measure_gps(fixes_at(when, geodetic[:1].expand_as(geodetic), images, 'GPS'))


def write_fixes(path, rows):
    """rows: (stamp_ns, status, latitude, longitude, altitude)."""
    with DriveBag(path) as bag:
        for time_ns, status, *position in rows:
            state = bag.make('sensor_msgs/msg/NavSatStatus', status, 1)
            message = bag.make('sensor_msgs/msg/NavSatFix', bag.header(time_ns, 'gps'), state, *position, np.zeros(9), 0)
            bag.write('/fix', message, time_ns)
    return path


def test_messages_without_a_fix_are_left_out(drive, tmp_path):
    stamps_s, T_world_cam, way = drive
    when, geodetic = fixes(way, 1.0, 0, rate_hz=1)
    rows = [(round((stamp_s + 1) * 1e9), 0, *position) for stamp_s, position in zip(when.tolist(), geodetic.tolist())]
    rows[::7] = [(time_ns, -1, 0.0, 0.0, 0.0) for time_ns, *_ in rows[::7]]
    rows[1::7] = [(time_ns, 0, math.nan, math.nan, math.nan) for time_ns, *_ in rows[1::7]]
    rows[2::7] = [(time_ns, 0, 0.0, 0.0, 0.0) for time_ns, *_ in rows[2::7]]
    images = replace(posed(stamps_s, T_world_cam), stamps_s=stamps_s + 1)
    with open_recording(write_fixes(tmp_path / 'bag', rows)) as recording:
        found = fixes_of_bag(recording, '/fix', images, read_tf(recording), 'camera')
    assert len(found.geodetic) == len(rows) - len(rows[::7]) - len(rows[1::7]) - len(rows[2::7])
    assert (found.geodetic - geodetic.median(0).values).abs().max() < 60
    for name, values in (('silent', (-1, 0.0, 0.0, 0.0)), ('ten millionths', (0, 525200000.0, 134050000.0, 80.0))):
        silent = write_fixes(tmp_path / name, [(row[0], *values) for row in rows])
        with (open_recording(silent) as recording,
              pytest.raises(AprlocError, match=f'none of its {len(rows)} messages has a fix.*degrees')):
            fixes_of_bag(recording, '/fix', images, read_tf(recording), 'camera')


@pytest.mark.parametrize('unknown', [math.nan, 0.0])
@pytest.mark.parametrize('slope', [0.0, 0.08])
def test_fixes_without_altitude_leave_up_to_the_cameras(drive, slope, unknown):
    """NavSatFix says NaN there, some drivers zero; a way up a slope is level by such fixes."""
    stamps_s, T_world_cam, way = drive
    tilt = pose(so3_exp(torch.tensor([0.0, -slope, 0.0], dtype=torch.float64)), torch.zeros(3, dtype=torch.float64))
    uphill = replace(way, T_a_b=tilt @ way.T_a_b)
    when, geodetic = fixes(uphill, 1.0, 0)
    geodetic[:, 2] = unknown
    uphill_cam = pose(T_world_cam[:, :3, :3], (tilt @ T_world_cam)[:, :3, 3])   # a camera that is kept upright
    found = measure_gps(fixes_at(when, geodetic, posed(stamps_s, uphill_cam, 0.01, 0.002), 'GPS'))
    assert abs(scale_error(found.change)) < 0.02 and up_error_deg(found.change) < 0.6
    assert 'no fix has an altitude' in found.text and abs(found.geodetic.altitude_m) < 3


def test_fixes_of_which_some_have_no_altitude_are_those_that_have_one(drive):
    stamps_s, T_world_cam, way = drive
    when, geodetic = fixes(way, 0.5, 0)
    geodetic[::3, 2] = math.nan
    found = measure_gps(fixes_at(when, geodetic, posed(stamps_s, T_world_cam, 0.01), 'GPS'))
    assert abs(scale_error(found.change)) < 0.01 and 'altitude' not in found.text
    assert found.geodetic.altitude_m == pytest.approx(80, abs=3)


@pytest.mark.parametrize('place', [GeodeticOrigin(-16.5, 180.0, 5.0), GeodeticOrigin(89.9999, 10.0, 5.0)], ids=['date line', 'pole'])
def test_fixes_at_the_ends_of_longitude_are_like_any_others(drive, place):
    stamps_s, T_world_cam, way = drive
    geodetic = from_enu(place, way.T_a_b[::2, :3, 3] + torch.tensor([0, 0, 0.8], dtype=torch.float64))
    found = measure_gps(fixes_at(way.stamps_s[::2].contiguous(), geodetic, posed(stamps_s, T_world_cam), 'GPS'))
    assert abs(scale_error(found.change)) < 1e-3 and found.geodetic.altitude_m == pytest.approx(5 + T_world_cam[0, 2, 3], abs=1)


def photo(path, gps):
    exif = Image.Exif()
    if gps:
        exif[0x8825] = gps
    Image.new('RGB', (8, 6)).save(path, exif=exif)
    return path


def test_positions_are_read_from_photos(tmp_path):
    south_west = {1: 'S', 2: (33.0, 51.0, 35.9), 3: 'W', 4: (151.0, 12.0, 40.0), 5: b'\x01', 6: 12.5}
    position = exif_position(photo(tmp_path / 'a.jpg', south_west))
    assert position == pytest.approx((-(33 + 51 / 60 + 35.9 / 3600), -(151 + 12 / 60 + 40 / 3600), -12.5), abs=1e-6)
    assert math.isnan(exif_position(photo(tmp_path / 'd.jpg', {key: south_west[key] for key in (1, 2, 3, 4)}))[2])
    assert exif_position(photo(tmp_path / 'b.jpg', None)) is None
    assert exif_position(photo(tmp_path / 'c.jpg', {1: 'N', 2: (0.0, 0.0, 0.0), 3: 'E', 4: (0.0, 0.0, 0.0)})) is None


@pytest.mark.parametrize('south, west', [('S\0', 'W\0'), ('S ', 'W '), (b'S', b'W'), ('s', 'w'), ('South', 'West')])
def test_a_hemisphere_is_read_however_its_letter_is_written(tmp_path, south, west):
    """Taken for north and east, a drive in the south west would fit as well, turned by half a turn."""
    position = exif_position(photo(tmp_path / 'a.jpg', {1: south, 2: (33.0, 30.0, 0.0), 3: west, 4: (70.0, 45.0, 0.0), 6: 12.5}))
    assert position == (-33.5, -70.75, 12.5)
    assert exif_position(photo(tmp_path / 'b.jpg', {1: '', 2: (33.0, 30.0, 0.0), 3: west, 4: (70.0, 45.0, 0.0)})) is None


def test_photos_without_a_position_are_left_out(tmp_path, drive):
    _, T_world_cam, _ = drive
    geodetic = from_enu(PLACE, T_world_cam[:40, :3, 3]).tolist()
    paths = []
    for index, (latitude, longitude, altitude_m) in enumerate(geodetic):
        gps = {1: 'N', 2: (latitude, 0.0, 0.0), 3: 'E', 4: (longitude, 0.0, 0.0), 5: b'\x00', 6: altitude_m}
        paths.append(photo(tmp_path / f'{index}.jpg', gps if index % 4 else None))
    images = replace(posed(None, T_world_cam[:40]), paths=tuple(paths))
    found = fixes_of_photos(images)
    assert len(found.geodetic) == 30
    assert abs(scale_error(measure_gps(found).change)) < 0.01
