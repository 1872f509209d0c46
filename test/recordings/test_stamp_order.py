"""Which stamps are taken, and when a clock counts as set back."""

import pytest

from aprloc_ros.recordings.stamp_order import CLOCK_SET_BACK_FRAMES, RecordedOrder, StampOrder


def test_stamps_must_increase():
    order = StampOrder()
    assert order.refusal(10) is None
    assert 'is not after' in order.refusal(10)
    assert 'is not after' in order.refusal(9)
    assert order.refusal(11) is None


@pytest.mark.parametrize('stamp_ns', [0, -1])
def test_a_stamp_of_zero_is_refused(stamp_ns):
    order = StampOrder()
    assert 'zero' in order.refusal(stamp_ns)
    assert order.refusal(1) is None


def test_a_bag_played_again_is_accepted_after_a_few_frames():
    order = StampOrder()
    assert order.refusal(10**12) is None
    refused = [order.refusal(stamp) for stamp in range(1, 2 * CLOCK_SET_BACK_FRAMES)]
    assert all(refused[:CLOCK_SET_BACK_FRAMES - 1]) and not any(refused[CLOCK_SET_BACK_FRAMES - 1:])


def test_late_frames_between_good_ones_never_turn_the_clock_back():
    order = StampOrder()
    for stamp in range(100, 200):
        assert order.refusal(stamp) is None
        assert order.refusal(50) is not None


def test_a_bag_played_again_is_the_same_twice_in_a_recording():
    order = RecordedOrder()
    stamps = range(1, 5 * CLOCK_SET_BACK_FRAMES)
    assert not any(order.refusal(stamp) for stamp in stamps)
    assert all(order.refusal(stamp) for stamp in stamps)


def test_one_stamp_of_the_future_costs_a_few_messages():
    order = RecordedOrder()
    refused = [order.refusal(stamp) for stamp in [*range(1, 100), 10**6, *range(100, 400)]]
    assert sum(map(bool, refused)) == CLOCK_SET_BACK_FRAMES - 1
