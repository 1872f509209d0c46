"""What a map publishes of images whose true poses are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aprloc_ros.covariance import residuals
from aprloc_ros.estimate import Estimate
from aprloc_ros.scoring.uncertainty import FIVE_SIGMA, squared_mahalanobis
from aprloc_ros.training.datasets.capture import Frame


@dataclass(frozen=True, eq=False)
class Published:
    """N poses that were not rejected."""

    T_map_cam: Tensor    # [N, 4, 4]
    T_truth: Tensor      # [N, 4, 4]
    covariance: Tensor   # [N, 6, 6]

    @classmethod
    def of(cls, estimates: Sequence[Estimate], frames: Sequence[Frame]) -> 'Published | None':
        """None where all were rejected."""
        kept = [(e.T_map_cam, f.T_map_cam, e.covariance) for e, f in zip(estimates, frames, strict=True) if e.status != 'rejected']
        return cls(*(torch.stack(column) for column in zip(*kept))) if kept else None

    def __len__(self) -> int:
        return len(self.T_map_cam)

    @property
    def xi(self) -> Tensor:
        """[N, 6] residuals."""
        return residuals(self.T_map_cam, self.T_truth)

    @property
    def squared(self) -> Tensor:
        """[N] squared Mahalanobis distances."""
        return squared_mahalanobis(self.xi, self.covariance)

    @property
    def beyond(self) -> int:
        """How many are farther off than five standard deviations."""
        return int((self.squared > FIVE_SIGMA).sum())
