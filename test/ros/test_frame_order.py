"""Time that is set back: told by the clock at once, by stamps after a few, and always before the frame is used."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed')
from aprloc_ros.recordings.stamp_order import CLOCK_SET_BACK_FRAMES
from aprloc_ros.ros.frame_order import FrameOrder

SECOND = 10**9


class Clock:
    """Of a node: remembers who wants to hear of jumps."""

    def __init__(self):
        self.callbacks = []

    def get_clock(self):
        return self

    def create_jump_callback(self, threshold, post_callback):
        assert threshold.min_forward is None and threshold.min_backward.nanoseconds < 0
        self.callbacks.append(post_callback)
        return SimpleNamespace(unregister=lambda: self.callbacks.remove(post_callback))


@pytest.fixture
def order():
    """The order, its clock, and how often it said that time was set back."""
    clock, said = Clock(), []
    return FrameOrder(clock, lambda: said.append(1)), clock, said


def test_stamps_in_order_say_nothing(order):
    order, _, said = order
    assert [order.refusal(stamp * SECOND) for stamp in range(1, 50)] == [None] * 49 and not said


def test_a_clock_that_jumps_back_is_told_and_the_next_frame_is_taken(order):
    order, clock, said = order
    assert order.refusal(100 * SECOND) is None
    clock.callbacks[0](None)
    assert len(said) == 1 and order.refusal(10 * SECOND) is None and order.refusal(11 * SECOND) is None


def test_a_frame_from_before_the_jump_that_comes_late_costs_some_frames_and_is_told_again(order):
    order, clock, said = order
    assert order.refusal(100 * SECOND) is None
    clock.callbacks[0](None)
    assert order.refusal(101 * SECOND) is None
    refused = [order.refusal(10 * SECOND + index) for index in range(CLOCK_SET_BACK_FRAMES)]
    assert refused[-1] is None and all(refused[:-1]) and len(said) == 2


def test_stamps_alone_tell_after_a_few_frames(order):
    order, _, said = order
    assert order.refusal(100 * SECOND) is None
    for index in range(CLOCK_SET_BACK_FRAMES - 1):
        assert order.refusal(SECOND + index) and not said
    assert order.refusal(2 * SECOND) is None and len(said) == 1
    assert order.refusal(3 * SECOND) is None and len(said) == 1


def test_closed_it_watches_no_more(order):
    order, clock, _ = order
    order.close()
    assert not clock.callbacks
