"""The newest frame only, and every frame accounted for."""

import threading
import time

import pytest

from aprloc_ros.ros.worker import FrameCounts, NewestFrameWorker

PATIENCE_S = 300


@pytest.fixture
def gate():
    """A worker whose answers wait for permission; yields worker, answered frames, superseded count, the permission."""
    answered, superseded, started, permission = [], [], threading.Semaphore(0), threading.Semaphore(0)

    def answer(frame):
        started.release()
        permission.acquire()
        answered.append(frame)

    worker = NewestFrameWorker(answer, lambda: superseded.append(1))
    yield worker, answered, superseded, started, permission
    permission.release(100)
    worker.stop()


def wait_until(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def test_only_the_newest_waiting_frame_is_answered(gate):
    worker, answered, superseded, started, permission = gate
    worker.submit(0)
    assert started.acquire(timeout=PATIENCE_S)
    for frame in range(1, 6):
        worker.submit(frame)
    permission.release(2)
    wait_until(lambda: len(answered) == 2)
    assert answered == [0, 5] and len(superseded) == 4


def test_submitting_does_not_wait_for_an_answer(gate):
    worker, answered, _, started, _ = gate
    worker.submit(0)
    assert started.acquire(timeout=PATIENCE_S)
    for frame in range(1000):
        worker.submit(frame)
    assert not answered


def test_stop_finishes_the_frame_in_hand_and_drops_the_waiting_one(gate):
    worker, answered, superseded, started, permission = gate
    worker.submit('in hand')
    assert started.acquire(timeout=PATIENCE_S)
    worker.submit('waiting')
    permission.release()
    worker.stop()
    assert answered == ['in hand'] and len(superseded) == 1


def test_an_idle_worker_stops_at_once():
    worker = NewestFrameWorker(lambda frame: None, lambda: None)
    worker.stop()
    assert threading.active_count() == 1 or all(thread.name != 'localizer' for thread in threading.enumerate())


def test_counts_by_reason():
    counts = FrameCounts()
    for _ in range(4):
        counts.receive()
    assert counts.reject('image', 'too small')
    assert not counts.reject('image', 'too large')
    assert counts.reject('stamp', 'zero')
    counts.answer()
    assert counts.reject('stamp', 'zero')
    values = counts.values()
    assert values['frames rejected'] == '4' and values['rejected: image'] == '2' and values['rejected: stamp'] == '2'
    assert values['frames received'] == '4' and values['frames answered'] == '1'
    assert values['last rejection'] == 'stamp: zero' and counts.rejected_last
