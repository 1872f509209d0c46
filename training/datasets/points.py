"""Sparse points of a reconstruction, kept to what the training frames saw."""

import numpy as np
import torch

from aprloc_ros.training.datasets.capture import Frame, SparsePoints

# A point seen from fewer training views owes its place to held-out frames.
MIN_TRAINING_VIEWS = 2


def training_points(xyz: np.ndarray, image_of: np.ndarray, point_of: np.ndarray, image_names: list[str],
                    train: tuple[Frame, ...]) -> SparsePoints | None:
    """Points that at least two training frames observe; None when there are none.

    xyz: [P, 3]; image_of, point_of: [O], each observation's index into image_names and into xyz.
    image_names: the frame's name per image of the reconstruction.
    """
    index_of = {frame.name: index for index, frame in enumerate(train)}
    frame_of_image = np.array([index_of.get(name, -1) for name in image_names], dtype=np.int64)
    pairs = np.stack([frame_of_image[image_of], point_of], -1)
    pairs = np.unique(pairs[pairs[:, 0] >= 0], axis=0)
    views = np.bincount(pairs[:, 1], minlength=len(xyz))
    kept = (views >= MIN_TRAINING_VIEWS) & np.isfinite(xyz).all(-1)
    if not kept.any():
        return None
    pairs = pairs[kept[pairs[:, 1]]]
    pairs[:, 1] = (np.cumsum(kept) - 1)[pairs[:, 1]]
    return SparsePoints(torch.from_numpy(np.ascontiguousarray(xyz[kept], dtype=np.float64)), torch.from_numpy(pairs))
