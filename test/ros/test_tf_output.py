"""When map->odom is sent, with which stamp: against a clock that the test holds."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('rclpy', reason='ROS is not installed')
from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.recordings.message_fields import rigid_transform, stamp_ns
from aprloc_ros.ros.messages import time_message
from aprloc_ros.ros.odometry import OdometryPose
from aprloc_ros.ros.parameters import NodeParameters
from aprloc_ros.ros.tf_output import TfOutput

T_MAP_BASE = se3_exp(torch.tensor([2.0, -1.0, 0.5, 0.2, -0.3, 1.5], dtype=torch.float64))
ODOMETRY = OdometryPose('odom', se3_exp(torch.tensor([7.0, 0.0, 0.0, 0.0, 0.0, -0.4], dtype=torch.float64)))
SECOND = 10**9


class Clock:
    """A node whose time and timers are the test's."""

    def __init__(self):
        self.now_ns, self.timers = 1000 * SECOND, []

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now_ns))

    def create_timer(self, period_s, callback):
        self.timers.append((period_s, callback))
        return self.timers[-1]

    def destroy_timer(self, timer):
        self.timers.remove(timer)

    def pass_time(self, duration_ns):
        self.now_ns += duration_ns
        for _, callback in self.timers:
            callback()


def output(**parameters):
    clock, sent = Clock(), []
    return TfOutput(clock, NodeParameters(**parameters), 'map', sent.append), clock, sent


def heard(message):
    T = rigid_transform(message.transform.translation, message.transform.rotation, 'tf')
    return stamp_ns(message.header.stamp), message.header.frame_id, message.child_frame_id, T


def test_between_answers_the_last_one_is_sent_again():
    tf, clock, sent = output(tf_rate_hz=20.0, transform_tolerance_s=0.3)
    assert [period_s for period_s, _ in clock.timers] == [0.05]
    clock.pass_time(SECOND)
    assert not sent
    # The image came 20 ms after its stamp and was answered 80 ms later.
    arrived_ns = clock.now_ns
    clock.now_ns += 80_000_000
    tf.update(time_message(arrived_ns - 20_000_000), arrived_ns, T_MAP_BASE, ODOMETRY)
    clock.pass_time(50_000_000)
    stamps = [heard(message)[0] - arrived_ns for message in sent]
    assert stamps == [360_000_000, 410_000_000]   # now, on the images' clock, and the tolerance
    for message in sent:
        _, parent, child, T_map_odom = heard(message)
        assert (parent, child) == ('map', 'odom')
        torch.testing.assert_close(T_map_odom @ ODOMETRY.T_odom_base, T_MAP_BASE)
    tf.close()
    assert not clock.timers


def test_a_clock_that_stands_still_repeats_no_stamp():
    tf, clock, sent = output()
    tf.update(time_message(clock.now_ns), clock.now_ns, T_MAP_BASE, ODOMETRY)
    for _ in range(5):
        clock.pass_time(0)
    assert len(sent) == 1


def test_a_bag_of_another_day_gets_stamps_of_that_day():
    tf, clock, sent = output(transform_tolerance_s=0.0)
    tf.update(time_message(5 * SECOND), clock.now_ns, T_MAP_BASE, ODOMETRY)
    clock.pass_time(SECOND)
    assert [heard(message)[0] for message in sent] == [5 * SECOND, 6 * SECOND]


def test_without_a_rate_only_answers_are_sent():
    tf, clock, sent = output(tf_rate_hz=0.0, transform_tolerance_s=0.1)
    assert not clock.timers
    tf.update(time_message(5 * SECOND), clock.now_ns, T_MAP_BASE, ODOMETRY)
    assert [heard(message)[0] for message in sent] == [5 * SECOND + 100_000_000]


def test_without_odometry_there_is_no_transform_to_it():
    tf, clock, sent = output()
    tf.update(time_message(5 * SECOND), clock.now_ns, T_MAP_BASE, None)
    clock.pass_time(SECOND)
    assert not sent


def test_to_the_base_only_answers_are_sent_and_at_the_images_time():
    tf, clock, sent = output(publish_tf='map_to_base', base_frame='base')
    tf.update(time_message(5 * SECOND), clock.now_ns, T_MAP_BASE, None)
    clock.pass_time(SECOND)
    (time_ns, parent, child, T), = map(heard, sent)
    assert (time_ns, parent, child) == (5 * SECOND, 'map', 'base')
    torch.testing.assert_close(T @ invert(T_MAP_BASE), torch.eye(4, dtype=torch.float64))


def test_when_time_is_set_back_nothing_is_sent_until_the_next_answer():
    tf, clock, sent = output(transform_tolerance_s=0.0)
    tf.update(time_message(clock.now_ns), clock.now_ns, T_MAP_BASE, ODOMETRY)
    tf.forget()
    clock.now_ns -= 100 * SECOND
    clock.pass_time(SECOND)
    assert len(sent) == 1
    tf.update(time_message(clock.now_ns), clock.now_ns, T_MAP_BASE, ODOMETRY)
    assert heard(sent[-1])[0] == clock.now_ns


def test_an_image_from_before_a_simulations_clock_ran_makes_no_stamp_of_a_far_future():
    """TF keeps what is newest, and would refuse all that comes for decades."""
    tf, clock, sent = output(transform_tolerance_s=0.0)
    clock.now_ns = 0
    for time_s in (1000, 1001):
        tf.update(time_message(time_s * SECOND), clock.now_ns, T_MAP_BASE, ODOMETRY)
        clock.pass_time(0)
    clock.now_ns = 1001 * SECOND
    clock.pass_time(SECOND)
    assert [heard(message)[0] for message in sent] == [1000 * SECOND, 1001 * SECOND]
    tf.update(time_message(1002 * SECOND), clock.now_ns, T_MAP_BASE, ODOMETRY)
    clock.pass_time(SECOND)
    assert [heard(message)[0] for message in sent[2:]] == [1002 * SECOND, 1003 * SECOND]
