"""What a map is asked to calibrate it: whole, without neighbourhoods, and by images that something befell."""

import numpy as np
import pytest
import torch

from aprloc_ros.training.calibration.questions import questions
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.images.misfortunes import spoil


@pytest.fixture(scope='module')
def photo():
    """A checkered wall whose squares differ, [120, 160, 3]."""
    y, x = np.mgrid[:120, :160]
    wall = np.random.default_rng(0).integers(30, 220, (12, 16, 3))[y // 10, x // 10]
    return wall.astype(np.uint8)


def test_an_image_is_spoilt_alike_each_time_and_kinds_take_turns(photo):
    spoilt = [spoil(photo, number) for number in range(6)]
    assert all(image.shape == photo.shape and image.dtype == np.uint8 for image in spoilt)
    assert all((image == spoil(photo, number)).all() for number, image in enumerate(spoilt))
    differing = [(image != photo).any(2).mean() for image in spoilt]
    assert min(differing) > 0.001
    assert len({image.tobytes() for image in spoilt}) == 6
    for image in (spoilt[2], spoilt[5]):   # something before the camera: the rest is as it was, to the bit
        assert 0 < (image != photo).any(2).mean() <= 0.62


def test_blur_takes_edges_away(photo):
    def steepness(image):
        return np.abs(np.diff(image.astype(float).mean(2), axis=1)).mean()

    flat = np.full_like(photo, 128)
    for number in (1, 4, 7):
        noise_alone = steepness(spoil(flat, number))
        assert steepness(spoil(photo, number)) < steepness(photo) + noise_alone
        assert abs(spoil(flat, number).astype(float).mean() - 128) < 2


def test_unseen_frames_are_asked_as_they_are_spoilt_and_without_a_neighbourhood(tiny_wall):
    train = read_capture(tiny_wall[0]).train
    unseen, trained = train[::4], train[1::4]
    asked = questions(unseen, trained, train[0].camera)
    assert len(asked.frames) == 3 * len(unseen) + len(trained)
    names = [frame.name for frame in asked.frames]
    of_trained = {frame.name for frame in trained}
    assert asked.trained.tolist() == [name in of_trained for name in names]
    for rows in (asked.spoilt, asked.left_out.bool() & ~asked.trained, ~(asked.spoilt | asked.left_out.bool())):
        assert [name for name, row in zip(names, rows.tolist()) if row] == [frame.name for frame in unseen]
    assert not (asked.spoilt & asked.left_out.bool()).any()
    assert torch.equal(asked.views.T_map_cam, torch.stack([frame.T_map_cam for frame in asked.frames]))
