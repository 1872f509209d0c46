"""Odometry in between its messages, from its topic and from TF."""

import pytest
import torch

pytest.importorskip('rclpy', reason='ROS is not installed')
from nav_msgs.msg import Odometry

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.recordings.odometry_break import odometry_breaks
from aprloc_ros.recordings.stamp_order import CLOCK_SET_BACK_FRAMES
from aprloc_ros.ros.messages import pose_to_message, time_message
from aprloc_ros.ros.odometry import OdometryAtImage, OdometryBuffer, TfOdometry


def transform(*tangent):
    return se3_exp(torch.tensor(tangent, dtype=torch.float64))


def odometry(time_s, T, frame='odom', child='base_link'):
    message = Odometry(child_frame_id=child)
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(time_s * 1e9), 10**9)
    message.pose.pose = pose_to_message(T)
    return message


def on_a_circle(time_s):
    """1 m/s and 0.5 rad/s: constant velocity in the body, so that the closed form is a screw motion."""
    return transform(0.3, 0.0, 0.0, 0.0, 0.0, 0.2) @ transform(time_s, 0.0, 0.0, 0.0, 0.0, 0.5 * time_s)


@pytest.mark.parametrize('time_s', [10.0, 10.033, 10.1, 10.249, 10.3])
def test_odometry_between_and_shortly_after_its_messages(time_s):
    buffer = OdometryBuffer('base_link')
    for at_s in (10.0, 10.1, 10.2):
        buffer.add(odometry(at_s, on_a_circle(at_s)))
    odometry_pose = buffer.at(time_message(round(time_s * 1e9)))
    assert odometry_pose.frame_id == 'odom'
    torch.testing.assert_close(odometry_pose.T_odom_base, on_a_circle(time_s), atol=1e-6, rtol=0)


def test_one_message_of_odometry_stands_for_its_moment():
    buffer = OdometryBuffer('base_link')
    buffer.add(odometry(10.0, on_a_circle(10.0)))
    torch.testing.assert_close(buffer.at(time_message(10_050_000_000)).T_odom_base, on_a_circle(10.0))


def test_stamps_of_arrival_in_a_burst_make_no_velocity():
    """Two messages that a serial line gives out together: twenty times the speed, were it taken from them alone."""
    buffer = OdometryBuffer('base_link')
    for at_s in (9.90, 9.95, 10.0):
        buffer.add(odometry(at_s, on_a_circle(at_s)))
    buffer.add(odometry(10.001, on_a_circle(10.02)))
    there = buffer.at(time_message(10_050_000_000)).T_odom_base
    assert (there[:3, 3] - on_a_circle(10.05)[:3, 3]).norm() < 0.05


def test_frames_may_have_a_leading_slash_as_tf_had_it_once():
    buffer = OdometryBuffer('base_link')
    buffer.add(odometry(10.0, on_a_circle(10.0), '/odom', '/base_link'))
    assert buffer.at(time_message(10 * 10**9)).frame_id == 'odom'


def test_odometry_without_stamps_says_so():
    buffer = OdometryBuffer('base_link')
    with pytest.raises(AprlocError, match='odom: the stamp is zero'):
        buffer.add(odometry(0.0, on_a_circle(0.0)))


@pytest.mark.parametrize('time_s', [9.7, 10.5])
def test_old_odometry_is_not_used(time_s):
    buffer = OdometryBuffer('base_link')
    with pytest.raises(AprlocError, match='none has come'):
        buffer.at(time_message(round(time_s * 1e9)))
    buffer.add(odometry(10.0, on_a_circle(10.0)))
    buffer.add(odometry(10.1, on_a_circle(10.1)))
    with pytest.raises(AprlocError, match='no odometry within 0.2 s'):
        buffer.at(time_message(round(time_s * 1e9)))


def test_late_messages_are_dropped_and_a_clock_that_was_set_back_forgets_the_odometry_before():
    buffer = OdometryBuffer('base_link')
    for at_s in (99.9, 100.0):
        buffer.add(odometry(at_s, on_a_circle(at_s)))
    for index in range(CLOCK_SET_BACK_FRAMES - 1):
        buffer.add(odometry(10.0 + index / 100, on_a_circle(0.0)))
    torch.testing.assert_close(buffer.at(time_message(100 * 10**9)).T_odom_base, on_a_circle(100.0), atol=1e-6, rtol=0)
    buffer.add(odometry(10.1, on_a_circle(10.1)))
    torch.testing.assert_close(buffer.at(time_message(10_100_000_000)).T_odom_base, on_a_circle(10.1))
    with pytest.raises(AprlocError):
        buffer.at(time_message(100 * 10**9))


def test_when_time_is_set_back_the_next_message_counts_at_once():
    buffer = OdometryBuffer('base_link')
    buffer.add(odometry(100.0, on_a_circle(100.0)))
    buffer.forget()
    with pytest.raises(AprlocError, match='none has come'):
        buffer.at(time_message(100 * 10**9))
    buffer.add(odometry(10.0, on_a_circle(10.0)))
    torch.testing.assert_close(buffer.at(time_message(10 * 10**9)).T_odom_base, on_a_circle(10.0))


def drive(buffer, velocity, rate_hz, seconds=2.0, T_start=None, from_s=10.0):
    """At a constant velocity [6] of the body -> what add() said, and where it ends."""
    T_start = torch.eye(4, dtype=torch.float64) if T_start is None else T_start
    times_s = [index / rate_hz for index in range(round(seconds * rate_hz) + 1)]
    said = [buffer.add(odometry(from_s + t, T_start @ transform(*(t * v for v in velocity)))) for t in times_s]
    return said, T_start @ transform(*(times_s[-1] * v for v in velocity))


@pytest.mark.parametrize('velocity', [(1.0, 0, 0, 0, 0, 0.5), (15.0, 0, 0, 0, 0, 0.3), (0, 0, 0, 0, 0, 6.0), (100.0, 0, 0, 0, 0, 0.5)])
@pytest.mark.parametrize('rate_hz', [10, 50, 500])
def test_odometry_that_drives_on_is_no_jump_whatever_its_speed_or_unit(velocity, rate_hz):
    said, _ = drive(OdometryBuffer('base_link'), velocity, rate_hz)
    assert not any(said)


@pytest.mark.parametrize('rate_hz', [20, 50, 500])
def test_odometry_that_is_set_anew_is_not_interpolated_with_what_it_was(rate_hz):
    """An image between the last message from before and the first one after: 1 m/s along x, from 30 m back to 0."""
    buffer, velocity, period_s = OdometryBuffer('base_link'), (1.0, 0, 0, 0, 0, 0), 1 / rate_hz
    said, _ = drive(buffer, velocity, rate_hz, 1.0, transform(30.0, 0, 0, 0, 0, 0))
    assert not any(said)
    said, _ = drive(buffer, velocity, rate_hz, 0.0, from_s=11.0 + period_s)
    assert 'odometry jumped by 31.0' in said[0] and 'set anew' in said[0]
    between = time_message(round((11.0 + 0.5 * period_s) * 1e9))
    assert abs(buffer.at(between).T_odom_base[0, 3]) < 1e-9
    said, _ = drive(buffer, velocity, rate_hz, 0.0, transform(period_s, 0, 0, 0, 0, 0), from_s=11.0 + 2 * period_s)
    assert not said[0] and buffer.at(between).T_odom_base[0, 3].item() == pytest.approx(-0.5 * period_s, abs=1e-9)


def test_another_odometry_that_takes_over_is_told():
    buffer = OdometryBuffer('base_link')
    assert buffer.add(odometry(10.0, on_a_circle(10.0))) == ''
    assert buffer.add(odometry(10.1, on_a_circle(10.1), 'visual')) == "odometry in 'visual' took over from 'odom'"


def test_odometry_of_another_body_or_without_a_pose_is_refused():
    buffer = OdometryBuffer('base_link')
    with pytest.raises(AprlocError, match="odom is of 'wheel', not of the base_frame 'base_link'"):
        buffer.add(odometry(1.0, on_a_circle(1.0), child='wheel'))
    broken = odometry(1.0, on_a_circle(1.0))
    broken.pose.pose.position.x = float('nan')
    with pytest.raises(AprlocError, match='odom: '):
        buffer.add(broken)


def test_odometry_from_tf():
    asked, T = [], on_a_circle(3.0)
    source = TfOdometry(lambda *arguments: asked.append(arguments) or T, 'odom', 'base_link')
    answer = source.at(time_message(7))
    assert (answer.frame_id, answer.T_odom_base) == ('odom', T) and asked == [('odom', 'base_link', time_message(7))]


def test_odometry_from_tf_that_is_set_anew_is_told_once_and_before_its_pose_is_given_out():
    """10 images a second at 1 m/s, from 30 m back to 0: asked twice for each, and again after a search began anew."""
    poses = {round(1e9 * (10 + index / 10)): transform(30 + index / 10 if index < 5 else (index - 5) / 10, 0, 0, 0, 0, 0) for index in range(10)}
    told = []
    at_image = OdometryAtImage(TfOdometry(lambda target, source, stamp: poses[stamp_ns(stamp)], 'odom', 'base_link'), 'map', 'base_link',
                               lambda why: told.append((why, at_image.pose)))
    for time_ns, T in poses.items():
        for _ in range(2):
            assert at_image.ask(time_message(time_ns)) is T
        assert len(told) == (time_ns >= 10_500_000_000)
    assert 'odometry jumped by 30.5' in told[0][0] and told[0][1] is None
    at_image.ask(time_message(10 * 10**9))   # time was set back: no jump
    assert len(told) == 1


def test_odometry_of_before_a_stamp_is_asked_beside_that_of_the_stamp_and_hides_no_new_beginning():
    """Of images that are stamped 0.2 s late, one every 0.5 s at 1 m/s, set anew after two."""
    told, asked = [], []

    def lookup(target, source, stamp):
        asked.append(stamp_ns(stamp))
        time_s = asked[-1] / 1e9
        return transform(30 + time_s if time_s < 11.2 else time_s - 11.2, 0, 0, 0, 0, 0)
    at_image = OdometryAtImage(TfOdometry(lookup, 'odom', 'base_link'), 'map', 'base_link', told.append)
    for time_s in (10.0, 10.5, 11.0, 11.5, 12.0):
        for before_s in (0.2, 0.0, 0.2):
            at_image.ask(time_message(round(1e9 * time_s)), before_s)
        assert asked[-3:] == [round(1e9 * (time_s - before_s)) for before_s in (0.2, 0.0, 0.2)]
    assert len(told) == 1 and 'odometry jumped by' in told[0]


def test_every_new_beginning_of_a_recording_is_found():
    """Two resets, one of the heading alone, in 60 s at 50 Hz of 1 m/s with a turn, one message of ten missing."""
    kept = [index for index in range(3000) if index % 10]
    run = {index: transform(*(index / 50 * v for v in (1.0, 0, 0, 0, 0, 0.3))) for index in kept}
    poses = torch.stack([run[index] if index < 1001 else transform(7.0, 0, 0, 0, 0, 0) @ run[index] if index < 2001
                         else transform(7.0, 0, 0, 0, 0, 0) @ run[index] @ transform(0, 0, 0, 0, 0, 2.0) for index in kept])
    stamps_s = 1e9 + torch.tensor(kept, dtype=torch.float64) / 50
    assert [kept[index] for index in odometry_breaks(stamps_s, poses)] == [1001, 2001]
    assert odometry_breaks(stamps_s, torch.stack(list(run.values()))) == []
    assert odometry_breaks(stamps_s[:1], poses[:1]) == []
