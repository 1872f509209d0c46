"""The transforms of a recording's /tf and /tf_static as one tree."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.recordings.message_fields import rigid_transform, stamp_ns
from aprloc_ros.recordings.trajectory import Trajectory, make_trajectory


@dataclass
class TfTree:
    """Transforms are kept as read, and become checked poses only where one is asked for."""

    parent: dict[str, str] = field(default_factory=dict)       # of each child frame
    records: dict[str, list] = field(default_factory=dict)     # (stamp_s or None, Transform message, place) by child
    static: set[str] = field(default_factory=set)              # children that never move
    read: dict[str, Trajectory] = field(default_factory=dict)  # of moving children, from all records when first asked for

    def add(self, message, is_static: bool, where: str) -> None:
        """A tf2_msgs/TFMessage. AprlocError naming `where` for a frame with two parents."""
        self.read.clear()
        for item in message.transforms:
            parent, child = item.header.frame_id.strip('/'), item.child_frame_id.strip('/')
            if self.parent.setdefault(child, parent) != parent:
                raise AprlocError(f'{where}: frame {child} has two parents, {self.parent[child]} and {parent}; '
                                  f'the transforms must form a tree')
            if is_static:
                self.static.add(child)
            if is_static or child not in self.static:
                stamp_s = None if is_static else stamp_ns(item.header.stamp) / 1e9
                self.records.setdefault(child, []).append((stamp_s, item.transform, where))

    def ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, and so on up to the root."""
        chain = [frame]
        while chain[-1] in self.parent:
            chain.append(self.parent[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise AprlocError(f'/tf: the transforms form a loop through {chain[-1]}')
        return chain

    def moves(self, ancestor: str, frame: str) -> bool:
        """Whether the ancestor lies above the frame with a stamped transform between the two."""
        chain = self.ancestors(frame)
        return ancestor in chain and any(child not in self.static for child in chain[:chain.index(ancestor)])

    def connects(self, target: str, source: str) -> bool:
        """Whether both hang on the same tree."""
        return self.ancestors(target)[-1] == self.ancestors(source)[-1]

    def lookup(self, target: str, source: str, stamps_s: Tensor, max_gap_s: float) -> tuple[Tensor, Tensor]:
        """Stamps [M] -> T_target_source [M, 4, 4] and whether each is known [M] (bool), of two that are connected."""
        above_source = self.ancestors(source)
        common = next(frame for frame in self.ancestors(target) if frame in above_source)
        T_common_target, target_known = self._climb(common, target, stamps_s, max_gap_s)
        T_common_source, source_known = self._climb(common, source, stamps_s, max_gap_s)
        return invert(T_common_target) @ T_common_source, target_known & source_known

    def _climb(self, ancestor: str, frame: str, stamps_s: Tensor, max_gap_s: float) -> tuple[Tensor, Tensor]:
        T = torch.eye(4, dtype=torch.float64).repeat(len(stamps_s), 1, 1)
        known = torch.ones(len(stamps_s), dtype=torch.bool)
        chain = self.ancestors(frame)
        for child in chain[:chain.index(ancestor)]:
            step, covered = self._step(child, stamps_s, max_gap_s)
            T, known = step @ T, known & covered
        return T, known

    def _step(self, child: str, stamps_s: Tensor, max_gap_s: float) -> tuple[Tensor, Tensor]:
        """T_parent_child [M, 4, 4] and whether each is known [M]; of a static one the last word counts."""
        if child in self.static:
            _, transform, where = self.records[child][-1]
            T = rigid_transform(transform.translation, transform.rotation, where)
            return T.expand(len(stamps_s), 4, 4), torch.ones(len(stamps_s), dtype=torch.bool)
        return self._trajectory(child).at(stamps_s, max_gap_s)

    def _trajectory(self, child: str) -> Trajectory:
        if child not in self.read:
            stamps, transforms, places = zip(*self.records[child], strict=True)
            self.read[child] = make_trajectory(stamps, [rigid_transform(t.translation, t.rotation, where)
                                                        for t, where in zip(transforms, places, strict=True)])
        return self.read[child]
