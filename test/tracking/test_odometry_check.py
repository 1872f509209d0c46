"""Odometry that moves otherwise than the images is named; odometry that is as good as it claims never is."""

import math
import re
from dataclasses import dataclass, field

import pytest
import torch

from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.tracking.motion import Belief, MotionOptions
from aprloc_ros.tracking.odometry_check import OdometryCheck

OPTIONS = MotionOptions()
STD = torch.tensor([0.02, 0.02, 0.02, 0.01, 0.01, 0.01], dtype=torch.float64)
COVARIANCE = torch.diag(STD ** 2)
RATE_HZ = 10.0
QUARTER_LEFT = se3_exp(torch.tensor([0.3, 0.1, 0, 0, 0, math.pi / 2], dtype=torch.float64))


def curve(speed_m_s, turn_rad_s):
    """The robot's own motion from one image to the next."""
    return se3_exp(torch.tensor([speed_m_s, 0, 0, 0, 0, turn_rad_s], dtype=torch.float64) / RATE_HZ)


def scaled(step, factor):
    scaled_step = step.clone()
    scaled_step[:3, 3] *= factor
    return scaled_step


@dataclass
class Drive:
    """A robot on its way: the check sees noisy answers, and what odometry makes of each step."""

    check: OdometryCheck = field(default_factory=OdometryCheck)
    seed: int = 0
    sureness: float = 1.0        # the true errors are so many times those that the answers claim
    alike: float = 0.0           # of an answer's error is that of the one before
    time_s: float = 100.0

    def __post_init__(self):
        self.random = torch.Generator().manual_seed(self.seed)
        self.T_map_base = se3_exp(torch.tensor([5.0, 2.0, 0.0, 0.1, 0.0, 0.4], dtype=torch.float64))
        self.T_odom_base = se3_exp(torch.tensor([-3.0, 1.0, 0.0, 0.0, 0.0, 2.0], dtype=torch.float64))
        self.error = torch.zeros(6, dtype=torch.float64)
        self.problems = []

    def drive(self, frames, step, odometry=lambda step: step, wrong=lambda index: None):
        """wrong: of a frame's index, how far off on the map [4, 4] the answer is, or None."""
        for index in range(frames):
            self.time_s += 1 / RATE_HZ
            self.T_map_base = self.T_map_base @ step
            self.T_odom_base = self.T_odom_base @ odometry(step)
            fresh = self.sureness * STD * torch.randn(6, dtype=torch.float64, generator=self.random)
            self.error = self.alike * self.error + math.sqrt(1 - self.alike ** 2) * fresh
            answer = self.T_map_base @ se3_exp(self.error)
            if (off := wrong(index)) is not None:
                answer = off @ answer
            self.check.see(Belief(self.time_s, answer, COVARIANCE, self.T_odom_base), OPTIONS)
            self.problems.append(self.check.problem)
        return self


CONTRADICTIONS = {
    'it stands still': lambda step: torch.eye(4, dtype=torch.float64), 'half a wheel': lambda step: scaled(step, 0.5),
    'twice a wheel': lambda step: scaled(step, 2.0), 'centimetres': lambda step: scaled(step, 100.0),
    'backwards': lambda step: scaled(step, -1.0), 'of a body that is turned': lambda step: invert(QUARTER_LEFT) @ step @ QUARTER_LEFT,
    'turns the other way': lambda step: torch.block_diag(step[:3, :3].T, torch.ones(1, 1).double()) + torch.cat(
        [torch.zeros(4, 3).double(), torch.cat([step[:3, 3], torch.zeros(1).double()])[:, None]], 1)}


@pytest.mark.parametrize('name', CONTRADICTIONS)
def test_odometry_that_contradicts_the_images_is_named_within_ten_seconds(name):
    step = curve(0.5, 0.5 if name == 'turns the other way' else 0.1)
    problems = Drive().drive(100, step, CONTRADICTIONS[name]).problems
    assert problems[-1].startswith('odometry contradicts the images: in ') and '\n' not in problems[-1]
    assert not problems[4]   # a second or more of evidence


def test_what_is_said_has_both_motions():
    problem = Drive(sureness=0.0).drive(60, curve(0.5, 0.0), CONTRADICTIONS['of a body that is turned']).problems[-1]
    found = re.fullmatch(r'odometry contradicts the images: in ([\d.]+) s they moved ([\d.]+) m \(([\d.]+) -?0.00 0.00\) '
                         r'and turned 0 deg, odometry ([\d.]+) m \(0.00 -([\d.]+) 0.00\) and turned 0 deg', problem)
    seconds, *metres = map(float, found.groups())
    assert seconds > 3 and metres == [pytest.approx(0.5 * seconds, abs=0.01)] * 4


def test_images_that_stand_still_while_odometry_moves_are_a_contradiction_too():
    drive = Drive().drive(100, curve(0.0, 0.0), lambda step: curve(0.5, 0.0))
    assert re.search(r'they moved 0\.\d\d m .* odometry 3\.\d\d m', drive.problems[-1])


def noisy(seed, share_m=0.05, share_rad=0.1):
    """Odometry with a wheel and a gyroscope off by what the options allow for."""
    random = torch.Generator().manual_seed(seed)
    wheel, gyroscope = (share * torch.randn(1, generator=random).item() for share in (share_m, share_rad))

    def step(true):
        turned = se3_exp(torch.tensor([0, 0, 0, 0, 0, gyroscope * math.atan2(true[1, 0], true[0, 0])], dtype=torch.float64))
        return scaled(true, 1 + wheel) @ turned

    return step


@pytest.mark.parametrize('speed_m_s, turn_rad_s', [(0.0, 0.0), (0.3, 0.0), (1.5, 0.1), (1.0, 1.0), (0.0, 1.0), (4.0, 0.2)])
def test_odometry_that_is_as_good_as_it_claims_is_never_named(speed_m_s, turn_rad_s):
    for seed in range(6):
        drive = Drive(seed=seed).drive(120, curve(speed_m_s, turn_rad_s), noisy(seed))
        assert set(drive.problems) == {''}


@pytest.mark.parametrize('alike', [0.0, 0.9, 0.99])
def test_a_map_that_is_too_sure_of_itself_does_not_blame_odometry(alike):
    for seed in range(4):   # errors of 2.5 times the claim: an ANEES of 6
        drive = Drive(seed=seed, sureness=2.5, alike=alike).drive(100, curve(0.0, 0.0), noisy(seed))
        drive.drive(200, curve(0.5, 0.2), noisy(seed))
        assert set(drive.problems) == {''}


def test_wrong_answers_do_not_blame_odometry():
    elsewhere = se3_exp(torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64))
    for wrong in (lambda index: elsewhere if index % 7 == 0 else None, lambda index: elsewhere if index // 20 % 2 else None,
                  lambda index: elsewhere):
        assert set(Drive().drive(200, curve(0.5, 0.2), wrong=wrong).problems) == {''}


def test_a_robot_that_was_carried_is_not_blamed_once_it_drives_again():
    drive = Drive().drive(60, curve(0.8, 0.2)).drive(60, curve(0.8, 0.0), CONTRADICTIONS['it stands still'])
    assert drive.problems[-1]      # on somebody's arm, where wheels know nothing
    drive.drive(100, curve(0.0, 0.0))
    assert drive.problems[-1]      # put down: standing still proves nothing
    drive.drive(120, curve(0.8, 0.2))
    assert not drive.problems[-1]


def test_without_odometry_nothing_is_said():
    check = OdometryCheck()
    for index in range(100):
        check.see(Belief(index / RATE_HZ, curve(index, 0.0), COVARIANCE, None), OPTIONS)
    assert not check.problem


def test_time_that_is_set_back_begins_anew():
    drive = Drive().drive(60, curve(0.5, 0.0), CONTRADICTIONS['it stands still'])
    drive.time_s = 50.0
    assert not drive.drive(10, curve(0.5, 0.0)).problems[-1]
