"""A camera that gives out one image for ever: which it is told from, and how soon."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aprloc_ros.geometry import se3_exp
from aprloc_ros.tracking.answer import FrameRejected, Picture, answer_picture
from aprloc_ros.tracking.motion import MotionOptions
from aprloc_ros.tracking.stuck_camera import StuckCamera
from aprloc_ros.tracking.tracker import Tracker, TrackingOptions

OPTIONS = MotionOptions(odometry_noise_per_s=(0.01, 0.005))
PERIOD_S = 0.1


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def moved(x_m, yaw_rad=0.0):
    return se3_exp(torch.tensor([x_m, 0, 0, 0, 0, yaw_rad], dtype=torch.float64))


def problems(pixels, poses, options=OPTIONS):
    """Of images PERIOD_S apart, and odometry's poses at them."""
    stuck = StuckCamera()
    return [stuck.problem(image, 100 + PERIOD_S * index, pose, options)
            for index, (image, pose) in enumerate(zip(pixels, poses, strict=True))]


@pytest.mark.parametrize('way', [(0.05, 0.0), (0.0, 0.05)])
def test_the_same_image_while_odometry_moves_is_named_within_a_few_frames(way):
    x_m, yaw_rad = way
    found = problems([picture() for _ in range(20)], [moved(index * x_m, index * yaw_rad) for index in range(20)])
    assert not found[0] and all(found[2:])
    assert f'1.9 s before, but odometry moved {19 * x_m:.2f} m and turned {np.degrees(19 * yaw_rad):.0f} deg' in found[-1]


def test_a_simulation_without_noise_that_stands_still_is_no_stuck_camera():
    """Odometry drifts, by twice what it claims, for ten minutes."""
    count = 6000
    assert not any(problems([picture()] * count, [moved(2 * 0.01 * PERIOD_S * index) for index in range(count)]))


def test_images_that_differ_in_one_bit_are_those_of_a_camera():
    images = [picture() for _ in range(20)]
    for index, image in enumerate(images):
        image[index, 0, 0] ^= 1
    assert not any(problems(images, [moved(0.05 * index) for index in range(20)]))


def test_a_camera_that_comes_back_counts_again_and_is_compared_with_its_newest_image():
    images = [picture(), picture(), picture(), picture(1), picture(1)]
    found = problems(images, [moved(index) for index in range(5)])
    assert [bool(text) for text in found] == [False, True, True, False, True]


def test_without_odometry_nothing_is_known_until_it_comes():
    found = problems([picture()] * 6, [None, None, moved(5.0), None, moved(5.0), moved(6.0)])
    assert [bool(text) for text in found] == [False] * 5 + [True]


def test_time_that_was_set_back_begins_anew():
    stuck = StuckCamera()
    assert not stuck.problem(picture(), 100.0, moved(0.0), OPTIONS)
    assert not stuck.problem(picture(), 10.0, moved(5.0), OPTIONS)


def test_a_map_that_is_not_sure_publishes_no_pose_of_a_stuck_camera():
    """Its answers lie so near to where odometry is from frame to frame that each passed for the truth."""
    options, identity = TrackingOptions(confirmations=1), torch.eye(4, dtype=torch.float64)
    tracker, covariance = Tracker(options), 0.02 ** 2 * torch.eye(6, dtype=torch.float64)
    localizer = SimpleNamespace(localize=lambda *_, **__: SimpleNamespace(
        T_map_cam=identity, covariance=covariance, status='refined', reason='', text=''))
    reasons, published = [], []
    for index in range(100):
        truth = moved(0.03 * index)
        try:
            answer = answer_picture(Picture(picture(), None, identity), 100 + PERIOD_S * index, lambda delay_s: truth, localizer, tracker)  # noqa: B023
        except FrameRejected as rejection:
            reasons.append(rejection.reason)
        else:
            published.append((answer.T_map_base[0, 3] - truth[0, 3]).abs().item())
    assert set(reasons) == {'stuck'} and max(published) < 0.05
