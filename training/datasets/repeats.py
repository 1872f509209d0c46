"""Images that came again while their poses moved on: a camera or a driver that hung, a video whose frames were doubled."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

import torch

from aprloc_ros.geometry import so3_log
from aprloc_ros.training.datasets.capture import Capture, Frame, SparsePoints
from aprloc_ros.training.datasets.parsing import in_order

_MOVED, _TURNED_RAD = 1e-3, 2e-3   # of the extent of the way: less is a robot that stands, in a simulation say


def without_repeats(capture: Capture) -> Capture:
    """Without frames whose image is, to the last byte, that of a frame just before it from which the pose has moved, and a note of them.

    As it was where that would leave a split without any: its poses will contradict the images.
    """
    frames = (*capture.train, *capture.test)
    repeated = [frame.name for frame in _repeated(in_order(frames))]
    gone = set(repeated)
    train, test = (tuple(frame for frame in split if frame.name not in gone) for split in (capture.train, capture.test))
    if not repeated or not train or not test:
        return capture
    said = (f'WARNING: {len(repeated)} of {len(frames)} images are the same as the one before although their poses moved (first {repeated[0]}): the '
            'camera hung, or frames were doubled; they are left out')
    points = capture.points and _of_frames(capture.points, torch.tensor([frame.name not in gone for frame in capture.train]))
    return replace(capture, train=train, test=test, points=points, notes=(*capture.notes, said))


def _repeated(frames: tuple[Frame, ...]) -> Iterator[Frame]:
    """frames: as they were taken. Of the frames that share an image the first one's pose counts: then it was new."""
    if not frames:
        return
    centres = torch.stack([frame.T_map_cam[:3, 3] for frame in frames])
    extent = (centres - centres.mean(0)).norm(dim=1).square().mean().sqrt().item()
    for _, group in groupby(frames, key=attrgetter('sequence')):
        first, *others = group
        for frame in others:
            if not _same_file(first, frame):
                first = frame
            elif _has_moved(first, frame, extent):
                yield frame


def _same_file(a: Frame, b: Frame) -> bool:
    if a.image_path.stat().st_size != b.image_path.stat().st_size:
        return False
    return a.image_path.read_bytes() == b.image_path.read_bytes()


def _has_moved(a: Frame, b: Frame, extent: float) -> bool:
    turned_rad = so3_log(a.T_map_cam[:3, :3].T @ b.T_map_cam[:3, :3]).norm().item()
    return (a.T_map_cam[:3, 3] - b.T_map_cam[:3, 3]).norm().item() > _MOVED * extent or turned_rad > _TURNED_RAD


def _of_frames(points: SparsePoints, kept: torch.Tensor) -> SparsePoints:
    """What the training frames that are kept [N] (bool) saw."""
    number = kept.cumsum(0) - 1
    frame, point = points.observations[kept[points.observations[:, 0]]].unbind(1)
    return SparsePoints(points.xyz, torch.stack([number[frame], point], 1))
