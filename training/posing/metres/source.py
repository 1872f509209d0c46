"""The frame of images that were posed, from whatever the folder, video or bag they come from holds besides."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.recordings.bag_images import camera_frame
from aprloc_ros.recordings.decoding.encoded_images import read_image
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.training.datasets.choice import read_choice
from aprloc_ros.training.datasets.formats import bag
from aprloc_ros.training.datasets.formats.bag_topics import chosen_topics
from aprloc_ros.training.posing.metres.choice import NO_WISHES, Metres, Wishes, find_metres
from aprloc_ros.training.posing.metres.measured import Posed


def metres_of_source(names: Sequence[str], stamps_s: Sequence[float] | None, T_map_cam: Tensor, cameras: Sequence[Camera],
                     folder: Path, source: Path, wishes: Wishes = NO_WISHES) -> Metres:
    """names, stamps, poses [N, 4, 4] and cameras of the images below folder; source: where they come from.

    Raises AprlocError for a wish that cannot be met.
    """
    paths = tuple(folder / name for name in names)
    stamps = None if stamps_s is None else torch.tensor(stamps_s, dtype=torch.float64)
    posed = Posed(tuple(names), paths, T_map_cam.double(), tuple(cameras), stamps)

    def read(index: int) -> np.ndarray:
        return read_image(paths[index])

    if not bag.recognises(source):
        return find_metres(posed, read, wishes=wishes)
    with open_recording(source) as recording:
        topics = chosen_topics(recording, read_choice(source))
        return find_metres(posed, read, recording, camera_frame(recording, topics), wishes)
