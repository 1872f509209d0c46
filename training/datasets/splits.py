"""Held-out frames for captures that come without a split of their own."""

import math
from collections.abc import Callable
from itertools import groupby

import torch

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import so3_log
from aprloc_ros.training.datasets.capture import Frame

HELD_OUT = 0.1            # share of a video's frames that is held out
MIN_FRAMES = 8
# Consecutive frames closer than this share of the capture's spread overlap so much that they are a video.
VIDEO_STEP = 0.25
CALIBRATION_REACH = 0.35   # of a view: relative distance plus angle in radians


def calibration_split(frames: tuple[Frame, ...], where: str) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Training frames -> (to fit, to calibrate). AprlocError when there are too few.

    Like held_out, but a block is only as long as the view stays about the same: calibration has to meet what a query
    meets, a view that was not seen near places that were; a long hole in the map would overstate every error.
    """
    if len(frames) < MIN_FRAMES:
        raise AprlocError(f'{where}: {len(frames)} images are left to train on, beside those that are held out; at least {MIN_FRAMES} '
                          f'are needed, of which some calibrate: record more')
    return held_out(frames, where, _short_block)


def _long_block(sequence: list[Frame]) -> int:
    return max(2, math.isqrt(len(sequence)))


def _short_block(sequence: list[Frame]) -> int:
    """Frames in which the camera moves by CALIBRATION_REACH: its path over the RMS spread, plus its turns in radians."""
    T = torch.stack([frame.T_map_cam for frame in sequence])
    centres, R = T[:, :3, 3], T[:, :3, :3]
    spread_m = (centres - centres.mean(0)).square().sum(-1).mean().sqrt().clamp_min(1e-9)
    step = (centres[1:] - centres[:-1]).norm(dim=-1) / spread_m + so3_log(R[:-1].mT @ R[1:]).norm(dim=-1)
    return min(_long_block(sequence), max(2, round(CALIBRATION_REACH / step.median().clamp_min(1e-9).item())))


def held_out(frames: tuple[Frame, ...], where: str, block: Callable[[list[Frame]], int] = _long_block,
             ) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames in order of capture -> (train, test), sequence by sequence.

    A video gives contiguous blocks of `block(sequence)` frames with a guard gap that is in neither split; separate
    photographs every 8th image (the LLFF convention). AprlocError when there are too few frames.
    """
    if len(frames) < MIN_FRAMES:
        raise AprlocError(f'{where}: {len(frames)} posed images and no split of its own; '
                          f'holding some out needs at least {MIN_FRAMES}')
    train, test = [], []
    for _, group in groupby(frames, key=lambda frame: frame.sequence):
        sequence = list(group)
        if len(sequence) < MIN_FRAMES:
            train += sequence
        elif is_video(sequence):
            held, guarded = video_blocks(len(sequence), block(sequence))
            test += [sequence[index] for index in sorted(held)]
            train += [frame for index, frame in enumerate(sequence) if index not in held | guarded]
        else:
            test += sequence[::8]
            train += [frame for index, frame in enumerate(sequence) if index % 8]
    if not test:
        raise AprlocError(f'{where}: no sequence has the {MIN_FRAMES} images that holding some out needs')
    return tuple(train), tuple(test)


def left_out(frames: tuple[Frame, ...], train: tuple[Frame, ...], test: tuple[Frame, ...]) -> tuple[str, ...]:
    """What to say of the frames that no split holds."""
    count = len(frames) - len(train) - len(test)
    if not count:
        return ()
    return (f'{count} of {len(frames)} images are in no split: next to held-out blocks, or not in the capture\'s own',)


def is_video(frames: list[Frame]) -> bool:
    """Whether consecutive frames show nearly the same view: stamped, or small steps compared with the spread."""
    if all(frame.stamp_s is not None for frame in frames):
        return True
    T = torch.stack([frame.T_map_cam for frame in frames])
    centres, R = T[:, :3, 3], T[:, :3, :3]
    step_m = (centres[1:] - centres[:-1]).norm(dim=-1).median()
    step_rad = so3_log(R[:-1].mT @ R[1:]).norm(dim=-1).median()
    other = torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))
    spread_m = (centres - centres[other]).norm(dim=-1).median()
    spread_rad = so3_log(R.mT @ R[other]).norm(dim=-1).median()
    return bool((step_m <= VIDEO_STEP * spread_m) | (step_rad <= VIDEO_STEP * spread_rad))


def video_blocks(count: int, length: int) -> tuple[set[int], set[int]]:
    """Indices (held out, guard) among count frames.

    Blocks of `length` frames, as many as make HELD_OUT of the video, each in the middle of an equal part of it.
    The guard on either side is a quarter of a block: those frames would show the test views to the training.
    """
    guard = math.ceil(length / 4)
    blocks = max(1, round(HELD_OUT * count / length))
    held, near = set(), set()
    for block in range(blocks):
        start = round((block + 0.5) * count / blocks - length / 2)
        held |= set(range(start, start + length))
        near |= set(range(max(0, start - guard), min(count, start + length + guard)))
    return held, near - held
