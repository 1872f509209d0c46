"""What a source of images is made of, whether it is a folder, a video or a bag."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from aprloc_ros.camera import Camera

LOOKS_HZ = 15.0      # of a video or bag more pictures are not looked at
_LOOK_SIDE = 320     # pixels


@dataclass(frozen=True)
class Optics:
    """What is known of the lens that took an image; images of equal optics share a lens."""

    width: int
    height: int
    camera: Camera | None = None     # calibrated
    focal_px: float | None = None    # as a camera's maker says it
    group: Hashable = ''             # tells apart what is otherwise equal: another folder


@dataclass(frozen=True, eq=False)
class Look:
    """One image of a source, reduced."""

    index: int
    stamp_s: float | None
    grey: np.ndarray      # [h, w] uint8, its longer side 320 at most
    sequence: str = ''    # images of one follow each other


@dataclass(frozen=True)
class Shot:
    """An image that was taken into a capture."""

    name: str             # of its file below the folder of images
    optics: Optics
    stamp_s: float | None
    sequence: str = ''


class Source(Protocol):
    """path: as the user named it; is_video: whether each image follows the one before, None where nobody knows yet."""

    path: Path
    what: str             # 'photos', 'video', 'bag'
    is_video: bool | None
    notes: list[str]

    def __len__(self) -> int:
        """How many looks there are at most."""

    def looks(self) -> Iterator[Look]:
        """In order. What cannot be read is left out and noted."""

    def take(self, indices: Sequence[int], folder: Path) -> Iterator[Shot]:
        """The images of these looks, written or linked into the folder as JPEG or PNG."""


def reduced(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] RGB -> [h, w] grey, as a look has it."""
    scale = min(1.0, _LOOK_SIDE / max(image.shape[:2]))
    size = max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0]))
    return cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
