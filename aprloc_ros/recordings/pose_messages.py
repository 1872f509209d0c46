"""Posed messages of a stream to a trajectory, without those that cannot be used."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.message_fields import rigid_transform
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.stamp_order import RecordedOrder
from aprloc_ros.recordings.trajectory import Trajectory, make_trajectory


class PoseRecord(NamedTuple):
    """A pose as its message holds it."""

    stamp_ns: int
    xyz: object          # geometry_msgs/Point or Vector3
    quaternion: object   # geometry_msgs/Quaternion
    where: str           # bag, topic and index, for error messages
    frame: str = ''      # that it is in
    body: str = ''       # that it is of, where the message says so


def of_one(part: str, records: Iterable[PoseRecord], skipped: Skipped) -> Iterator[PoseRecord]:
    """Those whose 'frame' or 'body' is the first one's: two publishers on one topic are two trajectories. The others go to `skipped`."""
    first = None
    for record in records:
        own = getattr(record, part)
        first = own if first is None else first
        if own == first:
            yield record
        else:
            skipped.add(part, f'{record.where}: its {part} is {own[:80]!r}, that of the first message {first[:80]!r}')


def usable_poses(records: Iterable[PoseRecord], skipped: Skipped) -> Iterator[tuple[int, Tensor]]:
    """Stamp in nanoseconds and [4, 4]; the others go to `skipped`, but for one that is sent twice."""
    order, newest_ns, newest = RecordedOrder(), 0, torch.empty(0)
    for record in records:
        try:
            T = rigid_transform(record.xyz, record.quaternion, record.where)
        except AprlocError as error:
            skipped.add('pose', str(error))
            continue
        if record.stamp_ns == newest_ns and torch.equal(T, newest):
            continue
        refusal = order.refusal(record.stamp_ns)
        if refusal:
            skipped.add('stamp', f'{record.where}: {refusal}')
            continue
        newest_ns, newest = record.stamp_ns, T
        yield newest_ns, newest


def to_trajectory(records: Iterable[PoseRecord], skipped: Skipped) -> Trajectory:
    """Of the usable poses. Raises AprlocError where too many are not."""
    poses = list(usable_poses(records, skipped))
    skipped.summary()
    stamps_ns, T_a_b = zip(*poses, strict=True)
    return make_trajectory([stamp_ns / 1e9 for stamp_ns in stamps_ns], T_a_b)
