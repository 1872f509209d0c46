"""Among images that are warped or torn none is believed, however right it looks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aprloc_ros.estimate import UNSURE, WARPED
from aprloc_ros.geometry import se3_exp
from aprloc_ros.scoring.replay import OPTIONS
from aprloc_ros.tracking.answer import FrameRejected, Picture, answer_picture
from aprloc_ros.tracking.tracker import Tracker

STANDS = torch.eye(4, dtype=torch.float64)
OLDER = se3_exp(torch.tensor([0.1, 0, 0, 0, 0.05, 0], dtype=torch.float64))   # where the rows of the other moment say it is
COVARIANCE = 1e-5 * torch.eye(6, dtype=torch.float64)


def outcomes(reasons, T_map_cam=STANDS):
    """What becomes of answers that are rejected for these reasons, or of '' if for none, ten a second."""
    tracker, found = Tracker(OPTIONS), []
    for index, reason in enumerate(reasons):
        estimate = SimpleNamespace(T_map_cam=T_map_cam, covariance=COVARIANCE, status='rejected' if reason else 'refined', reason=reason, text=reason)
        picture = Picture(np.full((4, 4, 3), index % 256, np.uint8), None, STANDS)
        try:
            answer_picture(picture, 1 + index / 10, lambda delay_s: None, SimpleNamespace(localize=lambda *_, **__: estimate), tracker)  # noqa: B023
        except FrameRejected as no:
            found.append((no.reason, no.text))
        else:
            found.append(('', ''))
    return [reason for reason, _ in found], found[-1][1]


@pytest.mark.parametrize('share', [0.5, 0.7])
def test_a_stream_that_is_torn_all_along_publishes_nearly_nothing(share):
    """Whichever images are told to be torn: those that are not are as far off, 10 cm and more."""
    torn = np.random.default_rng(0).random(300) < share
    kept, text = outcomes(np.where(torn, WARPED, ''), OLDER)
    assert kept[20:].count('') <= 0.02 * 280 and text.endswith('none is believed until fewer are')


def test_a_driver_that_was_mended_is_believed_again():
    kept, _ = outcomes([WARPED] * 20 + [''] * 20)
    assert kept == [WARPED] * 28 + [''] * 12


@pytest.mark.parametrize('rare', [UNSURE, WARPED])
def test_a_rare_one_costs_itself_alone(rare):
    kept, _ = outcomes(([''] * 10 + [rare]) * 5)
    assert kept == ([''] * 10 + [rare]) * 5


def test_images_that_show_nothing_of_the_map_say_nothing_of_the_stream():
    kept, _ = outcomes([''] * 3 + [WARPED] + [UNSURE] * 30 + [WARPED] + [''] * 12)
    assert kept == [''] * 3 + [WARPED] + [UNSURE] * 30 + [WARPED] + [WARPED] * 8 + [''] * 4
