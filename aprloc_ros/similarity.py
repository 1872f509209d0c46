"""From one map frame to another: a rotation, a translation and a scale, and how sure the scale is."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import check_pose, pose


@dataclass(frozen=True, eq=False)
class Similarity:
    """x_new = scale * rotation @ x_old + translation. Raises AprlocError for a scale or rotation that is none."""

    scale: float          # new units, metres where something measured them, in one old unit
    rotation: Tensor      # [3, 3] float64
    translation: Tensor   # [3] float64, new units
    scale_sd: float       # standard deviation of log(scale); inf where the new unit is arbitrary too
    source: str           # what the scale was taken from, in words
    # [3] float64, in the new frame: the place that stays where it is whatever the scale.
    scale_about: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def __post_init__(self):
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise AprlocError(f'scale is {self.scale}; it must be finite and more than 0')
        if not self.scale_sd >= 0:
            raise AprlocError(f'scale_sd is {self.scale_sd}; it must be at least 0')
        T = check_pose(pose(self.rotation.double(), self.translation.double()), 'similarity')
        object.__setattr__(self, 'rotation', T[:3, :3])
        object.__setattr__(self, 'translation', T[:3, 3])

    def apply(self, T_map_cam: Tensor) -> Tensor:
        """Poses in the old frame and unit [..., 4, 4] -> the same in the new ones [..., 4, 4] float64."""
        T = T_map_cam.double()
        return pose(self.rotation @ T[..., :3, :3], self.points(T[..., :3, 3]))

    def points(self, xyz: Tensor) -> Tensor:
        """Points in the old frame [..., 3] -> in the new one [..., 3] float64."""
        return self.scale * xyz.double() @ self.rotation.T + self.translation

    def after(self, first: 'Similarity') -> 'Similarity':
        """first, then this one. The scale's certainty and source are this one's."""
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, self.points(first.translation),
                          self.scale_sd, self.source, self.scale_about)


def unchanged() -> Similarity:
    """The identity, whose unit is arbitrary."""
    return Similarity(1.0, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), math.inf, 'no scale')
