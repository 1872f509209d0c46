"""A posed capture, the one form that every reader converts to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from aprloc_ros.bit_depth import to_8_bits
from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.decoding.encoded_images import read_samples


class NoPoses(AprlocError):
    """Images may be there, but nothing tells where they were taken."""


@dataclass(frozen=True)
class Mask:
    """Which pixels of an image nothing may learn from."""

    path: Path
    hides: str    # 'white': whatever is not black is hidden; 'black': whatever is


@dataclass(frozen=True)
class Frame:
    """One image and its pose, OpenCV camera axes, metres."""

    name: str                        # unique in the capture; shown in tables and messages
    image_path: Path
    T_map_cam: Tensor                # [4, 4] float64
    camera: Camera                   # as captured, distortion included
    stamp_s: float | None = None     # of the dataset's own clock
    sequence: str = ''               # frames of one sequence are in the order of capture
    drive: str = ''                  # of several captures that were joined: which
    depth_path: Path | None = None   # 16-bit image aligned with the colour image
    depth_unit_m: float = 0.001      # metres per unit of the depth image
    mask: Mask | None = None
    sample_bits: int = 16            # that are used of the 16 of a 16-bit image file

    def read_image(self) -> np.ndarray:
        """[H, W, 3] uint8 RGB, of the camera's size."""
        image = read_samples(self.image_path)
        if image.shape[:2] != (self.camera.height, self.camera.width):
            raise AprlocError(f'{self.image_path}: the image is {image.shape[1]}x{image.shape[0]} but the camera '
                              f'says {self.camera.width}x{self.camera.height}')
        return to_8_bits(image, self.sample_bits) if image.dtype == np.uint16 else image


@dataclass(frozen=True)
class SparsePoints:
    """Points of the place and which training frame saw which."""

    xyz: Tensor            # [P, 3] float64, map frame
    observations: Tensor   # [O, 2] int64: index into Capture.train, index into xyz


@dataclass(frozen=True)
class Capture:
    """Training and held-out frames of one place."""

    name: str
    format: str                                # the reader's name
    root: Path
    train: tuple[Frame, ...]
    test: tuple[Frame, ...]
    points: SparsePoints | None = field(default=None)
    notes: tuple[str, ...] = ()                # what was not used of the capture or taken otherwise than written
    # What its poses may be mistaken for: "as those of FRAME: what to do" -> T [4, 4] that would make them the camera's.
    mounts: Mapping[str, Tensor] = field(default_factory=dict)
    drives: tuple['Capture', ...] = ()         # the captures that it was joined from, their frames as they are here
