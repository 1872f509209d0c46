"""Where odometry says the robot was, by a topic of a recording."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_messages import ODOMETRY
from aprloc_ros.recordings.odometry_break import odometry_breaks
from aprloc_ros.recordings.pose_messages import of_one, to_trajectory
from aprloc_ros.recordings.recording import Recording
from aprloc_ros.recordings.trajectory import Trajectory
from aprloc_ros.recordings.truth import pose_records, skipped_of

_MAX_GAP_S = 0.2   # between two messages; as long as the node goes on without one


@dataclass(frozen=True, eq=False)
class Odometry:
    """A topic's poses over time."""

    topic: str
    trajectory: Trajectory
    taken_over_s: tuple[tuple[float, float], ...] = ()   # stamps of the last message in one frame and the first in another

    def at(self, stamp_ns: int) -> Tensor | None:
        """T_odom_base [4, 4]; None where it says nothing, and between two messages of which the second begins anew."""
        T, known = self.trajectory.at(torch.tensor([stamp_ns / 1e9], dtype=torch.float64), _MAX_GAP_S)
        parted = any(before_s < stamp_ns / 1e9 < after_s for before_s, after_s in self._breaks_s)
        return T[0] if known and not parted else None

    def beginnings(self, stamp_ns: int) -> int:
        """How often it began anew until then."""
        return sum(after_s <= stamp_ns / 1e9 for _, after_s in self._breaks_s)

    @cached_property
    def _breaks_s(self) -> list[tuple[float, float]]:
        """Stamps of the messages before and after each new beginning."""
        stamps_s = self.trajectory.stamps_s
        jumps = ((stamps_s[index - 1].item(), stamps_s[index].item()) for index in odometry_breaks(stamps_s, self.trajectory.T_a_b))
        return sorted({*jumps, *self.taken_over_s})


def find_odometry(recording: Recording, name: str | None, base_frame: str, map_frame: str, truth: str | None) -> Odometry | None:
    """The topic of that name, else the only one that moves base_frame in a frame that is not the map's; None: there is none.

    truth: the topic that the poses are scored against, which must not help to find them. Raises AprlocError for a name that
    is not there, for one of another body or in the map's own frame, as the node refuses it, and where several could be meant.
    """
    if name:
        topic = recording.named(name, (ODOMETRY,), 'odometry topic')
        first = recording.first(topic).body
        if not _moves(first, base_frame, map_frame):
            raise AprlocError(f'{topic} is of {first.child_frame_id[:80]!r} in {first.header.frame_id[:80]!r}; odometry is to be of '
                              f'--base-frame {base_frame!r}, in another frame than the map\'s {map_frame!r}')
        return _read(recording, topic)
    found = [topic for topic in recording.counts(ODOMETRY)
             if topic.strip('/') != (truth or '').strip('/') and _moves(recording.first(topic).body, base_frame, map_frame)]
    if not found:
        return None
    topic = recording.only(found, 'topics with odometry', '--odom')
    return _read(recording, topic)


def _read(recording: Recording, topic: str) -> Odometry:
    """As the node takes it: of one body; where another frame takes over, it begins anew."""
    skipped = skipped_of(recording, topic)
    records = list(of_one('body', pose_records(recording, topic), skipped))
    trajectory = to_trajectory(records, skipped)
    recording.note(skipped.summary())
    return Odometry(topic, trajectory, tuple((before.stamp_ns / 1e9, after.stamp_ns / 1e9) for before, after in pairwise(records)
                                             if before.frame != after.frame))


def _moves(message, base_frame: str, map_frame: str) -> bool:
    return message.child_frame_id.strip('/') == base_frame and message.header.frame_id.strip('/') != map_frame
