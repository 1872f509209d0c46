"""The transforms of a recording's /tf and /tf_static as one tree."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose_errors
from aprloc_ros.recordings.message_fields import rigid_transform, stamp_ns
from aprloc_ros.recordings.pose_messages import PoseRecord, to_trajectory
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.trajectory import Trajectory

_SAME_M, _SAME_DEG = 1e-3, 0.1   # less is a rounding


@dataclass
class TfTree:
    """Transforms are kept as read, and become checked poses, and a tree, only where one is asked for.

    note: called with a line for the user when something was left out.
    """

    note: Callable[[str], None] = lambda text: None
    parents: dict[str, Counter] = field(default_factory=dict)   # of each child frame: how many transforms name which
    records: dict[tuple[str, str], list[PoseRecord]] = field(default_factory=dict)   # by parent and child
    parent: dict[str, str] = field(default_factory=dict)        # of each child frame that was asked for
    static: set[str] = field(default_factory=set)               # children that never move
    read: dict[tuple[str, str], Trajectory] = field(default_factory=dict)   # from the records, when first asked for
    last_word: dict[tuple[str, str], Tensor] = field(default_factory=dict)   # of static ones, likewise

    def add(self, message, is_static: bool, where: str) -> None:
        """A tf2_msgs/TFMessage. All static ones are added before those that move."""
        self.read.clear()
        self.last_word.clear()
        self.parent.clear()
        for item in message.transforms:
            parent, child = item.header.frame_id.strip('/'), item.child_frame_id.strip('/')
            if parent == child or not is_static and child in self.static:
                continue
            if is_static:
                self.static.add(child)
            self.parents.setdefault(child, Counter())[parent] += 1
            self.records.setdefault((parent, child), []).append(PoseRecord(
                stamp_ns(item.header.stamp), item.transform.translation, item.transform.rotation, where))

    def frames(self) -> set[str]:
        """All that are named."""
        return {*self.parents, *(parent for parents in self.parents.values() for parent in parents)}

    def ancestors(self, frame: str) -> Iterator[str]:
        """The frame, its parent, and so on up to the root. AprlocError where they are no tree, once it is reached."""
        seen = set()
        while frame not in seen:
            yield frame
            if frame not in self.parents:
                return
            seen.add(frame)
            frame = self._parent(frame)
        raise AprlocError(f'/tf: the transforms form a loop through {frame}')

    def _parent(self, child: str) -> str:
        """The one that the transforms name, but for a few. AprlocError for a frame with two parents."""
        if child not in self.parent:
            named = self.parents[child].most_common()
            if len(named) > 1:
                self._leave_out(child, named)
            self.parent[child] = named[0][0]
        return self.parent[child]

    def _leave_out(self, child: str, named: list[tuple[str, int]]) -> None:
        """The transforms of all parents but the first. AprlocError where they are too many, or were meant to last."""
        counts = ' and '.join(f'{name} ({count} times)' for name, count in named)
        others = [record for name, _ in named[1:] for record in self.records[name, child]]
        text = f'{others[0].where}: frame {child} has two parents, {counts}; the transforms must form a tree'
        if child in self.static:
            raise AprlocError(text)
        skipped = Skipped(f'transforms of frame {child}', self.parents[child].total())
        for _ in others:
            skipped.add('its parent', text)
        self.note(skipped.summary())

    def moves(self, ancestor: str, frame: str) -> bool:
        """Whether the ancestor lies above the frame with a stamped transform between the two."""
        return ancestor in self.ancestors(frame) and any(child not in self.static for child in self._below(ancestor, frame))

    def connects(self, target: str, source: str) -> bool:
        """Whether both hang on the same tree."""
        return self._common(target, source) is not None

    def lookup(self, target: str, source: str, stamps_s: Tensor, max_gap_s: float) -> tuple[Tensor, Tensor]:
        """Stamps [M] -> T_target_source [M, 4, 4] and whether each is known [M] (bool), of two that are connected."""
        common = self._common(target, source)
        T_common_target, target_known = self._climb(common, target, stamps_s, max_gap_s)
        T_common_source, source_known = self._climb(common, source, stamps_s, max_gap_s)
        return invert(T_common_target) @ T_common_source, target_known & source_known

    def _common(self, target: str, source: str) -> str | None:
        """The lowest frame above both. What lies above it is not looked at."""
        if target in self.ancestors(source):
            return target
        return next((frame for frame in self.ancestors(target) if frame in self.ancestors(source)), None)

    def _below(self, ancestor: str, frame: str) -> list[str]:
        """The frame and its parents below the ancestor."""
        return list(itertools.takewhile(lambda name: name != ancestor, self.ancestors(frame)))

    def _climb(self, ancestor: str, frame: str, stamps_s: Tensor, max_gap_s: float) -> tuple[Tensor, Tensor]:
        T = torch.eye(4, dtype=torch.float64).repeat(len(stamps_s), 1, 1)
        known = torch.ones(len(stamps_s), dtype=torch.bool)
        for child in self._below(ancestor, frame):
            step, covered = self._step(child, stamps_s, max_gap_s)
            T, known = step @ T, known & covered
        return T, known

    def _step(self, child: str, stamps_s: Tensor, max_gap_s: float) -> tuple[Tensor, Tensor]:
        """T_parent_child [M, 4, 4] and whether each is known [M]."""
        key = self._parent(child), child
        if child in self.static:
            T = self._last_word(*key)
            return T.expand(len(stamps_s), 4, 4), torch.ones(len(stamps_s), dtype=torch.bool)
        if key not in self.read:
            skipped = Skipped(f'transforms from {key[0]} to {child}', len(self.records[key]))
            # In the order of time, as tf2 keeps them: two publishers' messages overtake one another.
            self.read[key] = to_trajectory(sorted(self.records[key], key=lambda record: record.stamp_ns), skipped)
            self.note(skipped.summary())
        T = self.read[key].T_a_b
        # What always says the same is a mount, which ROS 1 sends now and then instead of once.
        return self.read[key].at(stamps_s, math.inf if (T == T[0]).all() else max_gap_s)

    def _last_word(self, parent: str, child: str) -> Tensor:
        """[4, 4] of the last record that is a pose; what others say elsewhere is noted. AprlocError where none is one."""
        if (parent, child) not in self.last_word:
            poses = []
            for record in reversed(self.records[parent, child]):
                try:
                    poses.append(rigid_transform(record.xyz, record.quaternion, record.where))
                except AprlocError as error:
                    refusal = error
                    self.note(f'left out: {error}')
            if not poses:
                raise refusal
            self.last_word[parent, child] = poses[0]
            self.note(_other_words(torch.stack(poses), f'static transforms from {parent} to {child}'))
        return self.last_word[parent, child]


def _other_words(T: Tensor, what: str) -> str:
    """Where static transforms [N, 4, 4] say different things, the last one first; else ''."""
    error_m, error_deg = pose_errors(T, T[:1].expand_as(T))
    if (error_m <= _SAME_M).all() and (error_deg <= _SAME_DEG).all():
        return ''
    return (f'{what} differ by up to {error_m.max():.3f} m and {error_deg.max():.1f} deg: the last one counts for the whole recording; '
            'were they of two publishers, or was it mounted anew?')
