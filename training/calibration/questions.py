"""What a map is asked to know how far its answers are to be trusted: which frames, and without which of its views."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.training.calibration.neighbourhoods import VIEWS_LEFT_OUT
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.images.views import Views, load_views

_MOST_WHOLE = 240     # frames that trained nothing, asked of the whole map: 230 without a fault bear that 1 % are wrong at most
_MOST_WITHOUT = 100   # of these, asked again without a neighbourhood
_MOST_TRAINED = 100   # on frames that trained the map, their own view left out


@dataclass(frozen=True)
class Questions:
    """N images in the order they were taken, each asked of the map without the `left_out` views nearest to it."""

    frames: tuple[Frame, ...]
    views: Views       # theirs, as small as the map's descriptors take them
    left_out: Tensor   # [N] int64; at least 1 for a frame that trained: its own view
    trained: Tensor    # [N] bool
    taken: tuple[tuple[str, float], ...]   # drive and seconds of each; NaN where it is not known when

    @property
    def images(self) -> list[int]:
        """Of each question the first one that is about the same image."""
        first: dict[Path, int] = {}
        return [first.setdefault(frame.image_path, index) for index, frame in enumerate(self.frames)]

    @staticmethod
    def of_whole_map(frames: tuple[Frame, ...], camera: Camera) -> 'Questions':
        """Each frame as a robot would ask it."""
        return Questions(frames, load_views(frames, camera), torch.zeros(len(frames), dtype=torch.int64),
                         torch.zeros(len(frames), dtype=torch.bool), _times(frames))


def questions(unseen: tuple[Frame, ...], trained: tuple[Frame, ...], camera: Camera) -> Questions:
    """Of frames that were held out of the map's training, and of frames that were not; any may be empty.

    Every unseen frame is asked of the whole map and, where they are few enough, of the map without a neighbourhood, of
    sizes that take turns: a single drive thus shows how errors grow with the distance from what was mapped.
    """
    nearby = VIEWS_LEFT_OUT[1:]
    whole = [(frame, 0, False) for frame in _some(unseen, _MOST_WHOLE)]
    without = [(frame, nearby[i % len(nearby)], False) for i, frame in enumerate(_some(unseen, _MOST_WITHOUT))]
    own = [(frame, max(1, VIEWS_LEFT_OUT[i % len(VIEWS_LEFT_OUT)]), True) for i, frame in enumerate(_some(trained, _MOST_TRAINED))]
    asked = sorted((*whole, *without, *own), key=lambda question: taken(question[0]))
    frames, left_out, known = zip(*asked)
    return Questions(frames, load_views(frames, camera), torch.tensor(left_out), torch.tensor(known), _times(frames))


def _some(frames: tuple[Frame, ...], most: int) -> list[Frame]:
    return [frames[i] for i in evenly(len(frames), most)]


def _times(frames: tuple[Frame, ...]) -> tuple[tuple[str, float], ...]:
    return tuple((frame.sequence, math.nan if frame.stamp_s is None else frame.stamp_s) for frame in frames)


def taken(frame: Frame) -> tuple:
    """Neighbours in this order are neighbours in time: what is left out of a fit are whole stretches of a drive."""
    return frame.sequence, frame.stamp_s or 0.0, frame.name
