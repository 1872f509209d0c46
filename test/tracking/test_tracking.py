"""The tracker on simulated drives whose truth is known: what passes, what is lost, and how it comes back."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from scipy.stats import chi2

from aprloc_ros.geometry import invert, se3_exp, se3_log
from aprloc_ros.tracking.tracker import Tracker, TrackingOptions, gate_threshold

EXACT = TrackingOptions(odometry_noise_per_m=(0.0, 0.0), odometry_noise_per_rad=(0.0, 0.0),
                        odometry_noise_per_s=(0.0, 0.0))
COVARIANCE = torch.diag(torch.tensor([0.02, 0.02, 0.02, 0.01, 0.01, 0.01], dtype=torch.float64) ** 2)
STEP = se3_exp(torch.tensor([0.03, 0.0, 0.0, 0.0, 0.0, 0.02], dtype=torch.float64))   # 0.9 m/s at 30 Hz
PERIOD_S = 1 / 30
ELSEWHERE = se3_exp(torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64))


@dataclass
class Robot:
    """Drives a circle at 30 Hz; its camera sees it with COVARIANCE, its odometry without an error or not at all."""

    tracker: Tracker
    has_odometry: bool = True
    frame: int = 0
    T_map_base: torch.Tensor = None
    T_odom_base: torch.Tensor = None

    def __post_init__(self):
        self.random = torch.Generator().manual_seed(0)
        self.T_map_base = se3_exp(torch.tensor([5.0, 2.0, 0.0, 0.0, 0.0, 0.4], dtype=torch.float64))
        self.T_odom_base = torch.eye(4, dtype=torch.float64)
        self.published = []   # (estimate, truth)

    @property
    def time_s(self):
        return 100 + self.frame * PERIOD_S

    def drive(self, frames=1):
        """Moves without a picture."""
        for _ in range(frames):
            self.frame += 1
            self.T_map_base, self.T_odom_base = self.T_map_base @ STEP, self.T_odom_base @ STEP

    def see(self, error=None):
        """A frame, answered with noise, or with an error [4, 4] on top -> verdict."""
        self.drive()
        attempt = self.tracker.begin(self.time_s, self.T_odom_base if self.has_odometry else None)
        xi = torch.linalg.cholesky(COVARIANCE) @ torch.randn(6, dtype=torch.float64, generator=self.random)
        answer = self.T_map_base @ se3_exp(xi) @ (torch.eye(4, dtype=torch.float64) if error is None else error)
        verdict = self.tracker.judge(attempt, answer, COVARIANCE)
        if verdict.accepted:
            self.published.append((answer, self.T_map_base))
        return verdict

    def sigmas(self):
        """How far each published pose is off, as a Mahalanobis distance."""
        xi = torch.stack([se3_log(invert(answer) @ truth) for answer, truth in self.published])
        return (xi @ torch.linalg.inv(COVARIANCE) * xi).sum(1).sqrt()


def localized(options=EXACT, has_odometry=True):
    robot = Robot(Tracker(options), has_odometry)
    while robot.tracker.state != 'localized':
        robot.see()
    return robot


def test_the_threshold_is_chi_squares():
    for probability in (0.5, 0.95, 0.99, 0.9999):
        assert gate_threshold(probability) == pytest.approx(chi2.ppf(probability, 6), rel=1e-9)
    assert gate_threshold(1.0) == math.inf


def test_a_first_pose_waits_for_its_confirmation():
    robot = Robot(Tracker(EXACT))
    assert robot.tracker.state == 'searching'
    first = robot.see()
    assert (first.accepted, first.reason, robot.tracker.state) == (False, 'unconfirmed', 'searching')
    assert '1 of 2' in first.text
    assert robot.see().accepted and robot.tracker.state == 'localized'


def test_answers_that_contradict_each_other_confirm_nothing():
    robot = Robot(Tracker(replace(EXACT, confirmations=3)))
    far = se3_exp(torch.tensor([2.0, 0, 0, 0, 0, 0], dtype=torch.float64))
    for error in (None, far, None, None, far):
        assert robot.see(error).reason == 'unconfirmed'
    assert [robot.see().accepted for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize('probability', [0.99, 0.9])
def test_true_answers_pass_as_often_as_the_gate_promises(probability):
    count = 1500
    robot = localized(replace(EXACT, gate_probability=probability, lost_after_rejections=1000))
    share = sum(robot.see().accepted for _ in range(count)) / count
    assert share == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / count))
    assert robot.tracker.state == 'localized'


@pytest.mark.parametrize('has_odometry', [True, False])
def test_outliers_are_jumps_and_true_answers_between_them_pass(has_odometry):
    robot = localized(has_odometry=has_odometry)
    for index in range(100):
        verdict = robot.see(ELSEWHERE if index % 4 == 3 else None)
        if index % 4 == 3:
            assert not verdict.accepted and verdict.reason == 'jump' and 'm from where the robot must be' in verdict.text
    assert robot.tracker.state == 'localized' and robot.sigmas().max() < 5 and len(robot.published) > 70


def test_the_start_is_the_last_good_pose_moved_by_odometry_even_while_answers_are_rejected():
    robot = localized()
    anchor, moved_from = robot.published[-1][0], robot.T_odom_base
    for _ in range(3):
        robot.see(ELSEWHERE)
    robot.drive()
    start = robot.tracker.begin(robot.time_s, robot.T_odom_base).start
    torch.testing.assert_close(start, anchor @ invert(moved_from) @ robot.T_odom_base)
    assert localized(has_odometry=False).tracker.begin(200.0, None).start is None   # too late: lost


def test_a_kidnapped_robot_is_lost_then_found_and_no_pose_in_between_is_wrong():
    robot = localized()
    for _ in range(30):
        robot.see()
    robot.T_map_base = robot.T_map_base @ ELSEWHERE   # carried away: odometry saw nothing
    before, states = len(robot.published), []
    for _ in range(EXACT.lost_after_rejections + EXACT.confirmations):
        robot.see()
        states.append(robot.tracker.state)
    assert states == ['localized'] * 4 + ['lost'] * 2 + ['localized']
    assert len(robot.published) == before + 1
    for _ in range(30):
        robot.see()
    # 60 draws of chi-square with 6 degrees of freedom: 99.99 % of them lie under this.
    assert robot.sigmas().max() < math.sqrt(chi2.ppf(0.9999 ** (1 / 60), 6))


def test_while_lost_answers_are_global():
    robot = localized()
    for _ in range(EXACT.lost_after_rejections):
        robot.see(ELSEWHERE)
    assert robot.tracker.state == 'lost'
    robot.drive()
    assert robot.tracker.begin(robot.time_s, robot.T_odom_base).start is None


def test_a_robot_that_was_lost_to_outliers_is_back_at_the_first_answer_that_agrees_with_odometry():
    robot = localized()
    for _ in range(EXACT.lost_after_rejections):
        robot.see(ELSEWHERE)
    assert robot.tracker.state == 'lost'
    assert robot.see().accepted and robot.tracker.state == 'localized'


@pytest.mark.parametrize('has_odometry, frames_until_back', [(True, 1), (False, 2)])
def test_after_a_black_out_the_robot_is_lost_and_back(has_odometry, frames_until_back):
    robot = localized(has_odometry=has_odometry)
    robot.drive(60)
    robot.tracker.lose()   # as the node's clock does while no picture comes
    assert robot.tracker.state == 'lost'
    accepted = [robot.see().accepted for _ in range(frames_until_back)]
    assert accepted == [False] * (frames_until_back - 1) + [True]
    assert robot.sigmas()[-1] < 5


def test_a_gap_in_the_stamps_alone_also_loses_the_robot():
    robot = localized(has_odometry=False)
    robot.drive(60)
    assert robot.see().reason == 'unconfirmed' and robot.tracker.state == 'lost'
    assert robot.see().accepted


def test_losing_needs_a_pose_that_is_held():
    tracker = Tracker(EXACT)
    tracker.lose()
    assert tracker.state == 'searching'


def test_an_old_candidate_confirms_nothing():
    robot = Robot(Tracker(EXACT), has_odometry=False)
    robot.see()
    robot.drive(300)
    assert robot.see(ELSEWHERE).reason == 'unconfirmed'


def test_a_pose_that_somebody_gives_is_the_start_and_the_gate():
    robot = Robot(Tracker(EXACT))
    wide = torch.diag(torch.tensor([0.25, 0.25, 0.25, 0.07, 0.07, 0.07], dtype=torch.float64))
    robot.tracker.expect(robot.T_map_base, wide)
    assert robot.tracker.begin(robot.time_s, None).start is robot.T_map_base
    assert robot.tracker.state == 'searching'
    assert robot.see(ELSEWHERE @ ELSEWHERE).reason == 'jump'
    assert robot.see().accepted


def test_a_pose_that_somebody_gives_wrongly_is_overruled():
    robot = Robot(Tracker(EXACT))
    robot.tracker.expect(robot.T_map_base @ ELSEWHERE, COVARIANCE)
    reasons = [robot.see().reason for _ in range(EXACT.lost_after_rejections + 2)]
    assert reasons == ['jump'] * EXACT.lost_after_rejections + ['unconfirmed', '']


@pytest.mark.parametrize('guess', [None, ELSEWHERE], ids=['silent', 'extrapolated'])
def test_odometry_that_was_late_when_a_frame_began_counts_as_it_is_when_the_answer_is_there(guess):
    robot = localized()
    for _ in range(5):
        robot.drive()
        attempt = robot.tracker.begin(robot.time_s, None if guess is None else robot.T_odom_base @ guess)
        attempt = replace(attempt, T_odom_base=robot.T_odom_base)
        assert robot.tracker.judge(attempt, robot.T_map_base, COVARIANCE).accepted
    robot.drive()
    torch.testing.assert_close(robot.tracker.begin(robot.time_s, robot.T_odom_base).start, robot.T_map_base)


def test_a_search_overtakes_the_frame_in_hand():
    robot = localized()
    robot.drive()
    attempt = robot.tracker.begin(robot.time_s, robot.T_odom_base)
    robot.tracker.search()
    assert robot.tracker.state == 'searching'
    assert robot.tracker.judge(attempt, robot.T_map_base, COVARIANCE).reason == 'overtaken'
    robot.drive()
    assert robot.tracker.begin(robot.time_s, robot.T_odom_base).start is None


def test_a_clock_that_was_set_back_starts_the_search_anew():
    robot = localized()
    robot.frame -= 100
    assert robot.see().reason == 'unconfirmed' and robot.tracker.state == 'searching'
    assert robot.see().accepted


def test_options_may_change_on_the_way():
    robot = localized()
    assert not robot.see(ELSEWHERE).accepted
    robot.tracker.options = replace(EXACT, gate_probability=1.0)
    assert robot.see(ELSEWHERE).accepted


def test_odometry_that_stands_still_is_named_in_the_verdict():
    robot = localized(TrackingOptions())
    stands = torch.eye(4, dtype=torch.float64)
    for _ in range(120):
        robot.drive()
        robot.tracker.judge(robot.tracker.begin(robot.time_s, stands), robot.T_map_base, COVARIANCE)
    assert robot.tracker.contradiction.startswith('odometry contradicts the images')
    robot.tracker.expect(robot.T_map_base @ ELSEWHERE, COVARIANCE)   # so that there is a pose to jump from
    robot.drive()
    verdict = robot.tracker.judge(robot.tracker.begin(robot.time_s, stands), robot.T_map_base, COVARIANCE)
    assert verdict.reason == 'jump' and verdict.text.endswith(robot.tracker.contradiction)


@pytest.mark.parametrize('turn', [0.0, 3.1])
def test_after_a_long_way_in_the_dark_odometry_confirms_nothing_any_more(turn):
    """A hundred and thirty metres of odometry at 5 cm a metre: within that, any place of the map would agree."""
    wrong = se3_exp(torch.tensor([4.0, 0.0, 0.0, 0.0, 0.0, turn], dtype=torch.float64))
    robot = localized(TrackingOptions())
    for _ in range(130):   # the camera shows something now and then, which is never believed
        robot.drive(30)
        robot.tracker.begin(robot.time_s, robot.T_odom_base)
    verdict = robot.see(wrong)
    assert (verdict.accepted, verdict.reason, robot.tracker.state) == (False, 'unconfirmed', 'lost')
    assert [robot.see().accepted for _ in range(2)] == [False, True]


def test_odometry_that_begins_anew_costs_no_answer():
    robot = localized()
    robot.T_odom_base = se3_exp(torch.tensor([-50.0, 7.0, 0.0, 0.0, 0.0, 2.0], dtype=torch.float64))
    robot.tracker.forget_odometry()
    assert [robot.see().accepted for _ in range(20)] == [True] * 20
    assert not robot.see(ELSEWHERE).accepted


def unsure(robot, frames):
    """Images that are asked about, and whose answers the map itself does not believe."""
    for _ in range(frames):
        robot.drive()
        robot.tracker.begin(robot.time_s, robot.T_odom_base if robot.has_odometry else None)


@pytest.mark.parametrize('has_odometry, confirmed', [(True, True), (False, False)])
def test_without_odometry_the_next_image_alone_confirms(has_odometry, confirmed):
    """A metre away after a second: a robot may have gone there, and nearly any wrong answer in a room is as near."""
    robot = Robot(Tracker(EXACT), has_odometry)
    robot.see()
    unsure(robot, 29)
    assert robot.see().accepted is confirmed
    assert robot.see().accepted   # the next one


def test_a_pose_that_was_not_seen_for_a_while_without_odometry_is_confirmed_anew():
    robot = localized(has_odometry=False)
    unsure(robot, 10)
    assert robot.see().accepted   # a third of a second: not far
    unsure(robot, 29)
    assert robot.see(se3_exp(torch.tensor([1.0, 0, 0, 0, 0, 0]).double())).reason == 'unconfirmed'
    assert robot.tracker.state == 'localized'   # what it knows holds as long as before
    assert [robot.see().accepted, robot.see().accepted] == [False, True]


def test_a_slow_camera_without_odometry_gets_all_its_poses():
    robot = localized(has_odometry=False)
    for _ in range(10):
        robot.drive(29)
        assert robot.see().accepted


@pytest.mark.parametrize('leaks', [0.03, 0.1])
def test_wrong_answers_that_leak_now_and_then_are_not_published_without_odometry(leaks):
    """All over a room of 6 x 6 m, in images of no place: before, a third of them confirmed one another."""
    generator, published = torch.Generator().manual_seed(0), 0
    tracker = Tracker(TrackingOptions())
    for frame in range(3000):
        attempt = tracker.begin(100 + frame / 10, None)
        if torch.rand((), generator=generator) < leaks:
            x, y, yaw = torch.rand(3, generator=generator, dtype=torch.float64) * torch.tensor([6.0, 6.0, 2 * math.pi])
            answer = se3_exp(torch.tensor([0, 0, 0, 0, 0, yaw - math.pi], dtype=torch.float64))
            answer[:2, 3] = torch.stack([x, y])
            published += tracker.judge(attempt, answer, COVARIANCE).accepted
    assert published <= 2
