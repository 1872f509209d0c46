"""Frames with other images than were taken, in a folder: damaged, darkened, relit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.training.datasets.capture import Frame


def altered(frames: tuple[Frame, ...], change: Callable[[np.ndarray], np.ndarray], folder: Path) -> tuple[Frame, ...]:
    """The frames with images [H, W, 3] uint8 RGB as `change` returns them, which the folder keeps."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for index, frame in enumerate(frames):
        path = folder / f'{index:06d}.png'
        cv2.imwrite(str(path), change(frame.read_image())[..., ::-1])
        found.append(replace(frame, image_path=path))
    return tuple(found)
