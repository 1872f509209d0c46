"""Cameras and machines whose speeds are known."""

from aprloc_ros.ros.rate import CameraRate


def run(rate, interval_s, took_s, images=40, start_s=0.0):
    """How often it is news that the machine does not keep up."""
    news = 0
    for i in range(images):
        rate.arrive(start_s + i * interval_s)
        if i % max(1, round(took_s / interval_s)) == 0:
            news += rate.answer(took_s)
    return news


def test_a_machine_that_keeps_up_is_no_news():
    rate = CameraRate()
    assert run(rate, 0.1, 0.06) == 0 and not rate.problem


def test_a_slow_one_is_named_once_with_its_numbers():
    rate = CameraRate()
    assert run(rate, 0.033, 0.085) == 1
    assert 'an answer takes 85 ms, images come every 33 ms' in rate.problem
    assert run(rate, 0.033, 0.085, start_s=10.0) == 0 and rate.problem


def test_a_slow_start_is_no_news_and_a_machine_that_recovers_is_none_any_more():
    rate = CameraRate()
    assert run(rate, 0.1, 3.0, images=3) == 0
    assert run(rate, 0.1, 0.3, images=60) == 1 and rate.problem
    run(rate, 0.1, 0.05, images=60, start_s=20.0)
    assert not rate.problem
