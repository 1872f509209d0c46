"""Which frames are answered, and when: at full speed, and as a node with the same durations would."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_map import CAMERA

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import BagImage
from aprloc_ros.scoring.replay import Robot, replay

PIXELS = np.random.default_rng(0).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)


class Machine:
    """A localizer and the clock by which it takes its time."""

    def __init__(self, seconds):
        self.seconds, self.now_s, self.status = iter(seconds), 0.0, 'prior'
        self.x_m, self.starts = itertools.repeat(0.0), []

    def localize(self, pixels, camera, starts):
        self.now_s += next(self.seconds)
        self.starts.append(starts)
        T_map_cam = torch.eye(4, dtype=torch.float64)
        T_map_cam[0, 3] = next(self.x_m)
        return SimpleNamespace(T_map_cam=T_map_cam, covariance=1e-4 * torch.eye(6, dtype=torch.float64), status=self.status,
                               score=0.25, reason='unsure', text='score 0.250')

    def clock(self):
        return self.now_s


def bag_image(index, arrival_s, stamp_s=None, data=None):
    message = SimpleNamespace(width=CAMERA.width, height=CAMERA.height, encoding='rgb8', step=3 * CAMERA.width,
                              is_bigendian=0, data=(PIXELS + np.uint8(index)).tobytes() if data is None else data)
    stamp_s = arrival_s if stamp_s is None else stamp_s
    return BagImage(index, 5 * 10**9 + round(arrival_s * 1e9), 10**12 + round(stamp_s * 1e9), 'cam', message, None, False)


def outcomes(arrivals_s, seconds, realtime):
    machine = Machine(seconds)
    images = [bag_image(index, arrival_s) for index, arrival_s in enumerate(arrivals_s)]
    return list(replay(images, machine, Robot(), realtime, machine.clock))


def test_at_full_speed_every_frame_is_answered_and_takes_its_own_time():
    frames = outcomes([0, 0.1, 0.2], [0.5, 0.25, 0.125], realtime=False)
    assert [frame.outcome for frame in frames] == ['answered'] * 3
    assert [frame.latency_ms for frame in frames] == pytest.approx([500, 250, 125])
    assert [frame.arrived_s for frame in frames] == pytest.approx([0, 0.1, 0.2])


def test_in_real_time_the_newest_frame_is_next():
    # The first is in hand until 0.25: of the two that come meanwhile the later one is taken, until 0.35, and so on.
    frames = outcomes([0, 0.1, 0.2, 0.3, 0.5, 0.55], [0.25, 0.1, 0.05, 0.2, 0.1], realtime=True)
    assert [(f.index, f.outcome) for f in frames] == [
        (0, 'answered'), (1, 'superseded'), (2, 'answered'), (3, 'answered'), (4, 'answered'), (5, 'answered')]
    latencies = {f.index: f.latency_ms for f in frames if f.outcome == 'answered'}
    # 2: waits from 0.2 to 0.25, then 0.1; 3: from 0.3 to 0.35, then 0.05; 4: at once; 5: from 0.55 to 0.7, then 0.1.
    assert latencies == pytest.approx({0: 250, 2: 150, 3: 100, 4: 200, 5: 250})


def simulate(arrivals_s, duration_s, step_s=1e-3):
    """NewestFrameWorker in small steps of time: indices of the answered frames."""
    answered, waiting, busy_until = [], None, -1.0
    for tick in range(round((arrivals_s[-1] + 10 * duration_s) / step_s)):
        now = tick * step_s
        arrived = [i for i, arrival in enumerate(arrivals_s) if round(arrival / step_s) == tick]
        waiting = arrived[-1] if arrived else waiting
        if waiting is not None and busy_until <= now + 1e-9:
            answered.append(waiting)
            waiting, busy_until = None, now + duration_s
    return answered


@pytest.mark.parametrize('duration_s', [0.02, 0.045, 0.07, 0.211])
def test_real_time_equals_a_simulation_in_small_steps(duration_s):
    rng = np.random.default_rng(0)
    arrivals_s = np.cumsum(rng.integers(10, 80, 60)) / 1000
    arrivals_s -= arrivals_s[0]
    frames = outcomes(arrivals_s.tolist(), [duration_s] * 60, realtime=True)
    assert sorted(frame.index for frame in frames) == list(range(60))
    assert [f.index for f in frames if f.outcome == 'answered'] == simulate(arrivals_s.tolist(), duration_s)


@pytest.mark.parametrize('realtime', [False, True])
def test_each_rejection_has_its_reason(realtime):
    machine = Machine([0.01] * 9)
    images = [bag_image(0, 0.0), bag_image(1, 0.1, data=b'short'), bag_image(2, 0.2, stamp_s=0.05), bag_image(3, 0.3)]
    wrong_size = bag_image(4, 0.4)
    object.__setattr__(wrong_size, 'info', SimpleNamespace(
        width=10, height=8, k=CAMERA.matrix.ravel(), d=(), distortion_model='plumb_bob', binning_x=0, binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)))
    frames = sorted(replay([*images, wrong_size], machine, Robot(), realtime, machine.clock), key=lambda frame: frame.index)
    assert [(f.outcome, f.reason) for f in frames] == [
        ('answered', ''), ('rejected', 'image'), ('rejected', 'stamp'), ('answered', ''), ('rejected', 'camera_info')]
    assert '5 bytes' in frames[1].text and 'is not after' in frames[2].text and '10x8' in frames[4].text


def test_an_answer_that_the_localizer_does_not_trust_is_rejected():
    machine = Machine([0.01] * 2)
    machine.status = 'rejected'
    frame, = replay([bag_image(0, 0.0)], machine, Robot(), clock=machine.clock)
    assert (frame.outcome, frame.reason) == ('rejected', 'unsure') and 'score 0.250' in frame.text


def test_an_error_of_the_localizer_costs_one_frame(monkeypatch):
    machine = Machine([0.01] * 3)
    localize, calls = machine.localize, []

    def sometimes(pixels, camera, starts):
        calls.append(camera)
        if len(calls) == 2:
            raise AprlocError('the pose holds NaN')
        return localize(pixels, camera, starts)

    monkeypatch.setattr(machine, 'localize', sometimes)
    frames = list(replay([bag_image(i, i / 10) for i in range(3)], machine, Robot(), clock=machine.clock))
    assert [(f.outcome, f.reason, f.text) for f in frames] == [
        ('answered', '', ''), ('rejected', 'localizer', 'the pose holds NaN'), ('answered', '', '')]


def shifted(x_m):
    T = torch.eye(4, dtype=torch.float64)
    T[0, 3] = x_m
    return T


def test_each_frame_starts_where_the_last_one_left_the_robot_and_odometry_moved_it():
    machine = Machine([0.01] * 3)
    machine.x_m = iter([2.0, 2.5, 3.0])
    robot = Robot('base', lambda stamp_ns: shifted(0.2), lambda stamp_ns: shifted(7 + 5 * (stamp_ns - 10**12) / 1e9), 'odom')
    frames = list(replay([bag_image(i, i / 10) for i in range(3)], machine, robot, clock=machine.clock))
    assert [frame.outcome for frame in frames] == ['answered'] * 3 and machine.starts[0] is None
    # 0.5 m in 0.1 s, by odometry; the camera sits 0.2 m before the base, which changes nothing on a straight way.
    for starts, x_m in zip(machine.starts[1:], (2.5, 3.0)):
        torch.testing.assert_close(starts, shifted(x_m)[None])


def test_a_jump_is_rejected_and_believed_once_the_robot_is_lost():
    machine = Machine([0.01] * 9)
    machine.x_m = iter([0.0, 50.0, 0.0, *[50.0] * 6])
    frames = list(replay([bag_image(i, i / 10) for i in range(9)], machine, Robot(), clock=machine.clock))
    assert [frame.reason for frame in frames] == ['', 'jump', '', *['jump'] * 5, '']
    assert frames[1].estimate.T_map_cam[0, 3] == 50.0   # kept, to be looked at
    # None while nothing is known: at first, and when lost.
    assert [i for i, starts in enumerate(machine.starts) if starts is None] == [0, 8]


def test_a_place_of_the_camera_that_is_not_known_costs_the_frame():
    def unknown(stamp_ns):
        raise AprlocError('TF does not say where')

    machine = Machine([0.01])
    frame, = replay([bag_image(0, 0.0)], machine, Robot('base', unknown), clock=machine.clock)
    assert (frame.reason, frame.text, machine.starts) == ('extrinsics', 'TF does not say where', [])


def test_a_covered_lens_is_rejected_before_anything_is_asked():
    machine = Machine([0.01])
    frame, = replay([bag_image(0, 0.0, data=bytes(PIXELS.nbytes))], machine, Robot(), clock=machine.clock)
    assert frame.reason == 'image' and 'next to nothing' in frame.text and not machine.starts


def test_odometry_that_was_set_anew_costs_a_replay_no_frame():
    """0.1 m a frame; with the fourth odometry begins again at zero, 3 m off by what it said before."""
    def frames(beginnings):
        machine = Machine([0.01] * 9)
        machine.x_m = iter([0.1 * index for index in range(8)])
        robot = Robot('base', lambda stamp_ns: shifted(0.0), lambda stamp_ns: shifted((stamp_ns - 10**12) / 1e9 - 3.0 * (stamp_ns >= 1_000_350_000_000)),
                      'odom', beginnings)
        return [f.reason for f in replay([bag_image(i, i / 10) for i in range(8)], machine, robot, clock=machine.clock)]

    assert 'jump' in frames(lambda stamp_ns: 0)
    assert not any(frames(lambda stamp_ns: int(stamp_ns >= 1_000_350_000_000)))
