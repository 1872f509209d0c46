"""The transforms of a bag's /tf and /tf_static as one tree."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.training.datasets.parsing import quaternion_pose
from aprloc_ros.training.datasets.trajectory import make_trajectory


@dataclass
class TfTree:
    """Transforms are kept as read, and become checked poses only where an image's pose needs them."""

    parent: dict[str, str] = field(default_factory=dict)                 # of each child frame
    records: dict[str, list[tuple]] = field(default_factory=dict)        # (stamp, wxyz, xyz, place) by child
    static: set[str] = field(default_factory=set)                        # children that never move

    def add(self, parent: str, child: str, stamp_s: float | None, q_wxyz: list, t_xyz: list, where: str):
        """T_parent_child at a time; stamp_s None: at all times."""
        if self.parent.setdefault(child, parent) != parent:
            raise AprlocError(f'{where}: frame {child} has two parents, {self.parent[child]} and {parent}; '
                              f'the transforms must form a tree')
        if stamp_s is None:
            self.static.add(child)
        if stamp_s is None or child not in self.static:
            self.records.setdefault(child, []).append((stamp_s, q_wxyz, t_xyz, where))

    def ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, and so on up to the root."""
        chain = [frame]
        while chain[-1] in self.parent:
            chain.append(self.parent[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise AprlocError(f'/tf: the transforms form a loop through {chain[-1]}')
        return chain

    def moves(self, ancestor: str, frame: str) -> bool:
        """Whether a stamped transform lies between the two."""
        chain = self.ancestors(frame)
        return any(child not in self.static for child in chain[:chain.index(ancestor)])

    def lookup(self, target: str, source: str, stamps_s: Tensor) -> tuple[Tensor, Tensor] | None:
        """Stamps [M] -> T_target_source [M, 4, 4] and whether each is known [M] (bool); None: not connected."""
        above_source = self.ancestors(source)
        common = next((frame for frame in self.ancestors(target) if frame in above_source), None)
        if common is None:
            return None
        T_common_target, target_known = self._climb(common, target, stamps_s)
        T_common_source, source_known = self._climb(common, source, stamps_s)
        return invert(T_common_target) @ T_common_source, target_known & source_known

    def _climb(self, ancestor: str, frame: str, stamps_s: Tensor) -> tuple[Tensor, Tensor]:
        T = torch.eye(4, dtype=torch.float64).repeat(len(stamps_s), 1, 1)
        known = torch.ones(len(stamps_s), dtype=torch.bool)
        chain = self.ancestors(frame)
        for child in chain[:chain.index(ancestor)]:
            stamps, *values = zip(*self.records[child])
            steps = [quaternion_pose(*value) for value in zip(*values)]
            if child in self.static:
                T = steps[-1] @ T
            else:
                step, covered = make_trajectory(stamps, steps).at(stamps_s)
                T, known = step @ T, known & covered
        return T, known
