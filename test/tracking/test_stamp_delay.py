"""Images whose stamps are late or early against odometry: it is measured, said, and held by what is published. Right stamps never are."""

import math

import numpy as np
import pytest
import torch

from aprloc_ros.estimate import Estimate
from aprloc_ros.geometry import invert, se3_exp, se3_log
from aprloc_ros.scoring.replay import Robot, replay
from aprloc_ros.tracking.answer import FrameRejected, Picture, answer_picture
from aprloc_ros.tracking.tracker import Tracker, TrackingOptions

RATE_HZ = 5.0
STD = torch.tensor([0.003, 0.003, 0.003, 0.001, 0.001, 0.001], dtype=torch.float64)
COVARIANCE = torch.diag(STD ** 2)
T_BASE_CAM = torch.tensor([[0, 0, 1, 0.2], [-1, 0, 0, 0.1], [0, -1, 0, 0.5], [0, 0, 0, 1.0]], dtype=torch.float64)
T_MAP_ODOM = se3_exp(torch.tensor([3.0, -1.0, 0.0, 0.0, 0.0, 1.3], dtype=torch.float64))
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def winding(t):
    """T_odom_base of a robot that turns left and right, faster and slower: up to 1 rad/s and 0.6 m/s."""
    heading = math.sin(0.9 * t) + 0.3 * math.sin(0.31 * t)
    T = se3_exp(torch.tensor([0, 0, 0, 0, 0, heading], dtype=torch.float64))
    T[:2, 3] = torch.tensor([math.sin(0.4 * t), 0.5 * math.sin(0.55 * t)])
    return T


def even(t):
    """A circle."""
    return se3_exp(t * torch.tensor([0.4, 0, 0, 0, 0, 0.6], dtype=torch.float64))


def wheels(way, seed, slips=0):
    """Of a wheel and a gyroscope that are off by as much as the options allow for, and turn idly for some seconds."""
    random = torch.Generator().manual_seed(seed)
    wheel, gyroscope = 1 + 0.05 * torch.randn(1, generator=random).item(), 1 + 0.1 * torch.randn(1, generator=random).item()
    slipping = (50 * torch.rand(slips, generator=random)).tolist()
    step_s, poses = 0.05, [torch.eye(4, dtype=torch.float64)]
    for index in range(round(63 / step_s)):
        xi = se3_log(invert(way(index * step_s)) @ way((index + 1) * step_s))
        idle = 1 + 0.5 * any(since <= index * step_s < since + 1 for since in slipping)
        poses.append(poses[-1] @ se3_exp(idle * xi * torch.tensor([wheel] * 3 + [gyroscope] * 3)))
    return lambda t: poses[round(t / step_s)]


def still(t):
    return torch.eye(4, dtype=torch.float64)


def fixed(t):
    return T_BASE_CAM


def panning(t):
    """T_base_cam on a head that looks left and right, up to 0.6 rad/s."""
    return se3_exp(torch.tensor([0, 0, 0, 0, 0, 0.6 * math.sin(t)], dtype=torch.float64)) @ T_BASE_CAM


class Drive:
    """Some images, each taken late_s before its stamp, through tracker and answer."""

    def __init__(self, late_s, way=winding, odometry=None, seed=0, mount=fixed):
        self.late_s, self.way, self.odometry, self.mount = late_s, way, odometry or way, mount
        self.random, self.tracker = torch.Generator().manual_seed(seed), Tracker(TrackingOptions())
        self.asked_s, self.answers = 0.0, []   # (stamp, answer, T_odom_base that its transform is made of)

    def localize(self, pixels, camera, starts):
        error = se3_exp(STD * torch.randn(6, dtype=torch.float64, generator=self.random))
        taken_s = self.time_s - self.late_s
        return Estimate(T_MAP_ODOM @ self.way(taken_s) @ self.mount(taken_s) @ error, COVARIANCE, 'refined', 1.0, None, {}, None)

    def ask(self, delay_s):
        self.asked_s = self.time_s - delay_s
        return self.odometry(self.asked_s)

    def drive(self, seconds=50):
        for index in range(round(seconds * RATE_HZ)):
            self.time_s = 1 + index / RATE_HZ
            picture = Picture(PIXELS + np.uint8(index % 256), None, self.mount(self.time_s - self.tracker.stamp_delay.seconds))
            try:
                answer = answer_picture(picture, self.time_s, self.ask, self, self.tracker)
            except FrameRejected:
                continue
            self.answers.append((self.time_s, answer, self.odometry(self.asked_s)))
        return self

    def errors_deg(self, since_s):
        """Of map -> odom."""
        return [se3_log(invert(T_MAP_ODOM) @ answer.T_map_base @ invert(T_odom_base))[3:].norm().rad2deg().item()
                for time_s, answer, T_odom_base in self.answers if time_s > since_s]

    def sigmas(self, since_s):
        """How far off the published poses are at their stamps."""
        return [(xi @ torch.linalg.solve(answer.covariance, xi)).sqrt().item() for time_s, answer, _ in self.answers if time_s > since_s
                for xi in [se3_log(invert(answer.T_map_base) @ T_MAP_ODOM @ self.way(time_s))]]


@pytest.mark.parametrize('late_s, words', [(0.05, '0.05 s late'), (0.1, '0.10 s late'), (0.3, '0.30 s late'), (-0.1, '0.10 s early')])
def test_a_delay_is_measured_said_and_held(late_s, words):
    drive = Drive(late_s).drive()
    assert drive.tracker.stamp_delay.seconds == pytest.approx(late_s, abs=0.02)
    number, rest = words.split(' s ')
    said = drive.tracker.stamp_delay.problem
    assert float(said.split('stamps are ')[1].split(' s')[0]) == pytest.approx(float(number), abs=0.021) and f' s {rest} against' in said
    assert max(drive.errors_deg(0)) > 40 * abs(late_s) and max(drive.errors_deg(40)) < 2   # of up to 1 rad/s
    assert max(drive.sigmas(0)) > 20 and max(drive.sigmas(40)) < 8 and np.mean(np.array(drive.sigmas(40)) > 5) < 0.1
    assert len([time_s for time_s, *_ in drive.answers if time_s > 40]) > 50   # of 55: hardly one is a jump any more


@pytest.mark.parametrize('slips', [0, 6])
def test_right_stamps_are_right_whatever_wheels_do(slips):
    for seed in range(2):
        drive = Drive(0.0, odometry=wheels(winding, seed, slips), seed=seed).drive()
        assert drive.tracker.stamp_delay.problem == '' and len(drive.answers) > 200
        torch.testing.assert_close(torch.linalg.det(drive.answers[-1][1].covariance), torch.linalg.det(COVARIANCE))   # as wide as it was


@pytest.mark.parametrize('late_s', [0.05, 0.1, -0.1])
def test_a_camera_that_moves_on_the_robot_shows_it_and_is_looked_for_where_it_was(late_s):
    """A robot that stands still, whose head pans: poses were up to 4 degrees off, or odometry was said to contradict the images."""
    drive = Drive(late_s, way=still, mount=panning).drive()
    assert drive.tracker.stamp_delay.seconds == pytest.approx(late_s, abs=0.02) and not drive.tracker.contradiction
    assert max(drive.errors_deg(0)) > 25 * abs(late_s) and max(drive.errors_deg(40)) < 1
    assert max(drive.sigmas(0)) > 10 and max(drive.sigmas(40)) < 8 and len([time_s for time_s, *_ in drive.answers if time_s > 40]) > 50


@pytest.mark.parametrize('way', [still, winding])
def test_a_camera_that_moves_on_the_robot_is_no_matter_of_right_stamps(way):
    drive = Drive(0.0, way=way, mount=panning).drive()
    assert drive.tracker.stamp_delay.problem == '' and len(drive.answers) > 240


def test_at_an_even_pace_nothing_shows_it():
    assert Drive(0.2, way=even).drive().tracker.stamp_delay.problem == ''


def test_stamps_that_are_right_again_are_noticed():
    drive = Drive(0.2).drive()
    assert drive.tracker.stamp_delay.problem
    again = Drive(0.0)
    again.tracker = drive.tracker
    assert not again.drive().tracker.stamp_delay.problem


def test_odometry_that_begins_anew_leaves_what_is_known_of_the_stamps():
    drive = Drive(0.2).drive(40)
    drive.tracker.forget_odometry()
    assert drive.tracker.stamp_delay.seconds == pytest.approx(0.2, abs=0.02)


def test_a_replay_remarks_it():
    from test_replay import bag_image
    drive = Drive(0.2)

    def localize(pixels, camera, starts):
        drive.time_s = 1 + next(seconds)
        return drive.localize(pixels, camera, starts)
    images = [bag_image(index % 256, 1 + index / RATE_HZ) for index in range(200)]
    seconds = iter([index / RATE_HZ for index in range(200)])
    asked_ns = []
    robot = Robot('base', lambda stamp_ns: asked_ns.append(stamp_ns) or T_BASE_CAM, lambda stamp_ns: winding(stamp_ns / 1e9 - 1000))
    frames = list(replay(images, type('Localizer', (), {'localize': staticmethod(localize)}), robot))
    assert not frames[20].remark and 's late against odometry' in frames[-1].remark
    assert frames[20].taken_ns == frames[20].stamp_ns and frames[-1].taken_ns == pytest.approx(frames[-1].stamp_ns - 2e8, abs=2e7)
    assert asked_ns == [frame.taken_ns for frame in frames]   # where the camera sat


OTHER_ODOMETRY = {'stands still': lambda T: torch.eye(4, dtype=torch.float64), 'half a wheel': lambda T: with_way(T, 0.5 * T[:3, 3]),
                  'backwards': lambda T: with_way(T, -T[:3, 3]), 'of a body that is turned': lambda T: invert(QUARTER_LEFT) @ T @ QUARTER_LEFT}
QUARTER_LEFT = se3_exp(torch.tensor([0.3, 0.1, 0, 0, 0, math.pi / 2], dtype=torch.float64))


def with_way(T, xyz):
    T = T.clone()
    T[:3, 3] = xyz
    return T


@pytest.mark.parametrize('name', OTHER_ODOMETRY)
def test_odometry_that_goes_elsewhere_is_no_matter_of_stamps(name):
    drive = Drive(0.0, odometry=lambda t: OTHER_ODOMETRY[name](winding(t))).drive(40)
    assert drive.tracker.stamp_delay.problem == ''
