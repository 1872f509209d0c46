"""Photos into a capture: links, copies of what COLMAP does not read, masks where it looks for them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.training.datasets.admission import with_sample_bits
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.choice import read_choice
from aprloc_ros.training.datasets.files import image_size, save_image
from aprloc_ros.training.datasets.mask_files import hidden_pixels, with_masks
from aprloc_ros.training.structure.colmap import can_read

MASKS = 'masks'   # beside the folder of images; NAME.jpg.png, black where it hides
_QUICK = cv2.IMWRITE_PNG_COMPRESSION, 1


def take_photos(files: Mapping[str, Path], root: Path, folder: Path) -> tuple[str, ...]:
    """Files of a folder root, by the names that they get in the capture's folder of images -> what to say of them.

    Files that COLMAP would not read as they are, of 12 bits in 16 say, are written anew, of 8 bits.
    """
    frames = tuple(_frame(name, file) for name, file in files.items())
    frames, deep = with_sample_bits(frames, ())
    frames, masked = with_masks(frames, root, read_choice(root).masks_hide)
    for frame in frames:
        target = folder / frame.name
        if can_read(frame):
            link(frame.image_path, target)
        else:
            save_image(target, frame.read_image()[..., ::-1], *_QUICK)
        if frame.mask:
            hidden = hidden_pixels(frame.mask, (frame.camera.width, frame.camera.height))
            save_image(folder.parent / MASKS / f'{frame.name}.png', np.where(hidden, 0, 255).astype(np.uint8), *_QUICK)
    return (*deep, *masked)


def link(file: Path, target: Path):
    """target leads to the file; where links cannot be made it is a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(file.absolute())
    except OSError:
        shutil.copy(file, target)


def _frame(name: str, file: Path) -> Frame:
    """A frame whose pose and lens nobody knows yet; the readers of masks and depths of samples look at neither."""
    width, height = image_size(file)
    return Frame(name, file, torch.eye(4, dtype=torch.float64), Camera(width, height, width, width, width / 2, height / 2))
