"""Metres from odometry: the demo's drives in a frame of structure from motion, odometry with known faults."""

import math

import pytest
import torch
from metres_fixtures import MOUNT, demo_drive, draws, posed, scale_error, up_error_deg

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose
from aprloc_ros.recordings.trajectory import Trajectory
from aprloc_ros.training.place.odometry import body_way, drifted
from aprloc_ros.training.posing.metres.choice import put_together
from aprloc_ros.training.posing.metres.odometry import measure_odometry

MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


@pytest.fixture(scope='module')
def drive():
    stamps_s, T_world_cam = demo_drive()
    return stamps_s, T_world_cam, body_way(stamps_s, T_world_cam, MOUNT)


def test_exact_odometry_of_an_unknown_mount_gives_the_exact_scale(drive):
    """The camera's wobble is no odometry's fault: a level body's camera is made rigid first."""
    stamps_s, _, way = drive
    T_world_cam = way.at(stamps_s, 1.0)[0] @ MOUNT
    found = measure_odometry(posed(stamps_s[:-1], T_world_cam[:-1]), way, 'odometry')
    assert abs(scale_error(found.change)) < 1e-6
    assert up_error_deg(found.change) < 1e-3


@pytest.mark.parametrize('change, is_said', [
    (lambda T: T, False),
    (lambda T: MIRROR @ T @ torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64)), True),
    (lambda T: T @ torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)), True),
], ids=['right', 'mirrored images', 'a camera that hangs'])
def test_up_that_is_down_by_another_is_a_warning(drive, change, is_said):
    """On a floor a mirrored world moves as one whose camera hangs upside down."""
    stamps_s, _, way = drive
    images = posed(stamps_s[:-1], change(way.at(stamps_s, 1.0)[0][:-1] @ MOUNT), 0.005, 0.002)
    lines = put_together(images, [measure_odometry(images, drifted(way, seed=1), 'odometry')]).lines
    assert sum(line.startswith('WARNING: what is up by odometry is down by the cameras') for line in lines) == is_said


def test_drift_does_not_bias_the_scale_and_its_deviation_is_right(drive):
    stamps_s, T_world_cam, way = drive
    length_m = (way.T_a_b[1:, :3, 3] - way.T_a_b[:-1, :3, 3]).norm(dim=1).sum()
    squares, drifts = [], []
    for seed in range(6):
        odometry = drifted(way, seed=seed)
        true_end = torch.linalg.solve(way.T_a_b[0], way.T_a_b[-1])[:3, 3]
        drifts.append(((odometry.T_a_b[-1, :3, 3] - true_end).norm() / length_m).item())
        found = measure_odometry(posed(stamps_s, T_world_cam, 0.01, 0.002, seed), odometry, 'odometry')
        assert abs(scale_error(found.change)) < 0.005
        assert up_error_deg(found.change) < 0.3
        squares.append((scale_error(found.change) / found.change.scale_sd) ** 2)
    assert 0.015 < sum(drifts) / len(drifts) < 0.04
    assert 0.2 < sum(squares) / len(squares) < 2.6   # 6 of a chi-square with one degree of freedom


def test_slipping_wheels_and_a_jump_do_not_matter(drive):
    stamps_s, T_world_cam, way = drive
    odometry = drifted(way, seed=3)
    T = odometry.T_a_b.clone()
    T[700:, :3, 3] += torch.tensor([5.0, -2.0, 0.0], dtype=torch.float64)
    found = measure_odometry(posed(stamps_s, T_world_cam, 0.01, 0.002), Trajectory(odometry.stamps_s, T), 'odometry')
    assert abs(scale_error(found.change)) < 0.005


def test_odometry_in_millimetres_is_told(drive):
    stamps_s, T_world_cam, way = drive
    T = way.T_a_b.clone()
    T[:, :3, 3] *= 1000
    with pytest.raises(AprlocError, match=r'odometry moves \d+ metres in a second: is it in millimetres'):
        measure_odometry(posed(stamps_s, T_world_cam, 0.01, 0.002), Trajectory(way.stamps_s, T), 'odometry')


def test_an_offset_of_the_clock_is_found_and_said(drive):
    stamps_s, T_world_cam, way = drive
    late = Trajectory(way.stamps_s + 0.42, way.T_a_b)
    found = measure_odometry(posed(stamps_s, T_world_cam, 0.01, 0.002), late, 'odometry')
    assert 'its clock is +0.4' in found.text
    assert abs(scale_error(found.change)) < 0.005


def test_what_is_no_odometry_of_these_images_is_refused(drive):
    stamps_s, T_world_cam, way = drive
    images = posed(stamps_s, T_world_cam, 0.01, 0.002)
    silent = pose(way.T_a_b[:1, :3, :3].repeat(len(way.T_a_b), 1, 1), way.T_a_b[:1, :3, 3].repeat(len(way.T_a_b), 1))
    walk = way.T_a_b.clone()
    walk[:, :3, 3] = torch.cumsum(0.05 * draws(len(walk), 3, seed=9), 0)
    walk[:, :3, :3] = walk[:, :3, :3].flip(0)
    for wrong, reason in ((Trajectory(way.stamps_s, silent), 'silent'),
                          (Trajectory(way.stamps_s + 1.7e9, way.T_a_b), 'another clock'),
                          (Trajectory(way.stamps_s, walk), 'does not (fit|move as) the images'),
                          (Trajectory(way.stamps_s[::40].contiguous(), way.T_a_b[::40]), 'less than half of the images')):
        with pytest.raises(AprlocError, match=reason) as refusal:
            measure_odometry(images, wrong, 'odometry /odom')
        assert str(refusal.value).startswith('odometry /odom') and len(str(refusal.value).splitlines()) == 1


def test_a_straight_drive_gives_a_scale_and_owns_that_it_knows_no_up():
    stamps_s = torch.arange(0, 60, 0.5, dtype=torch.float64)
    speed = 0.5 + 0.3 * torch.sin(0.4 * stamps_s)
    x = torch.cumsum(0.5 * speed, 0)
    T_base = pose(torch.eye(3, dtype=torch.float64).repeat(len(x), 1, 1), torch.stack([x, 0 * x, 0 * x], 1))
    exact = Trajectory(stamps_s, T_base)
    times = torch.arange(0, 59.5, 0.05, dtype=torch.float64)
    found = measure_odometry(posed(stamps_s, T_base @ MOUNT, 0.002, 0.001), Trajectory(times, exact.at(times, 1.0)[0]), 'odometry')
    assert abs(scale_error(found.change)) < 3 * found.change.scale_sd < 0.02
    assert found.up_sd_rad > math.radians(10)
