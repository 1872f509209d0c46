"""Which effort is chosen on a machine whose speed is known."""

import math

import pytest
import torch

from aprloc_ros.pace import Effort, Pace, threads

WHOLE, ALONE, QUICK, LAST = EFFORTS = (Effort('nre', 2), Effort('nre', 1), Effort('nre_quick', 2), Effort('nre_quick', 1))
IDLE_MS = {WHOLE: 45.0, ALONE: 58.0, QUICK: 26.0, LAST: 33.0}


def warmed_up(deadline_ms, efforts=EFFORTS):
    pace = Pace(efforts, deadline_ms)
    for effort in efforts:
        pace.learn(effort, 2 * IDLE_MS[effort])
        pace.learn(effort, IDLE_MS[effort])
    return pace


def drive(pace, slowness, frames):
    """Efforts of so many frames on a machine that is so many times slower; with two threads four times as much."""
    chosen = []
    for _ in range(frames):
        effort = pace.choose()
        took_ms = IDLE_MS[effort] * (slowness if effort.threads == 1 or slowness == 1 else 4 * slowness)
        pace.note(effort, min(took_ms, pace._deadline_ms), took_ms > pace._deadline_ms)
        chosen.append((effort, took_ms <= pace._deadline_ms))
    return chosen


@pytest.mark.parametrize(('deadline_ms', 'effort'), [(300, WHOLE), (46, WHOLE), (44, QUICK), (25, LAST), (math.inf, WHOLE)])
def test_an_idle_machine_does_the_most_that_fits(deadline_ms, effort):
    assert set(drive(warmed_up(deadline_ms), 1.0, 50)) == {(effort, IDLE_MS[effort] <= deadline_ms)}


def test_a_busy_machine_works_on_one_thread_and_answers_nearly_all():
    chosen = drive(warmed_up(300), 4.0, 100)
    assert chosen[0] == (WHOLE, False)   # nothing was known yet
    assert {effort for effort, _ in chosen[-60:]} == {ALONE}
    assert sum(in_time for _, in_time in chosen) >= 99


def test_where_the_whole_would_be_late_the_quick_one_is_asked():
    chosen = drive(warmed_up(300), 7.0, 100)
    assert {effort for effort, _ in chosen[-15:]} == {LAST}
    assert sum(in_time for _, in_time in chosen) >= 94   # the whole is tried again now and then


def test_an_idle_machine_is_believed_again():
    pace = warmed_up(300)
    drive(pace, 6.0, 30)
    assert [effort for effort, _ in drive(pace, 1.0, 60)][-1] == WHOLE


def test_nothing_is_known_before_the_warm_up():
    pace = Pace(EFFORTS, 100.0)
    assert set(drive(pace, 5.0, 30)) == {(WHOLE, False)} and not pace.usual_ms


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with pytest.raises(ValueError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError
    assert torch.get_num_threads() == before
