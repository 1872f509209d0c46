"""Calls that wait for an outcome."""

import threading

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed')
from aprloc_ros.ros.services import Outcome, PendingCalls

GOOD, LATE = Outcome(True, 'here'), Outcome(False, 'too late')


def test_all_that_wait_are_answered_once():
    calls = PendingCalls()
    assert not calls
    waiting = [calls.add(60.0) for _ in range(3)]
    assert calls and not any(call.done() for call in waiting)
    calls.settle(GOOD)
    assert [call.result() for call in waiting] == [GOOD] * 3 and not calls
    calls.settle(LATE)
    assert waiting[0].result() == GOOD


def test_only_overdue_calls_are_told_so():
    calls = PendingCalls()
    short, long = calls.add(0.0), calls.add(600.0)
    calls.settle_overdue(lambda: LATE)
    assert short.result() == LATE and not long.done() and calls


def test_no_call_is_lost_between_threads():
    calls, waiting, done = PendingCalls(), [], threading.Event()

    def settle():
        while not done.is_set():
            calls.settle(GOOD)

    thread = threading.Thread(target=settle)
    thread.start()
    waiting.extend(calls.add(60.0) for _ in range(2000))
    done.set()
    thread.join()
    calls.settle(GOOD)
    assert all(call.result() == GOOD for call in waiting)
