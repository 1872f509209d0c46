"""Whether a regressor that was taught is better than it was."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aprloc_ros.covariance import residuals
from aprloc_ros.geometry import pose_errors
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.regressor import predict_poses

_STRETCHES, _IN = 4, 5   # so many stretches of the drive, one part in five, examine


def exam_split(count: int) -> tuple[Tensor, Tensor]:
    """Indices of the images of a drive that teach, and of those that examine: whole stretches, spread over it.

    What lies next to a stretch is in neither: it would tell.
    """
    length = max(1, round(count / (_STRETCHES * _IN)))
    index = torch.arange(count)
    place = index % (_IN * length) - (_IN // 2) * length   # 0 to length - 1 within a stretch
    guard = math.ceil(length / 4)
    return index[(place < -guard) | (place >= length + guard)], index[(place >= 0) & (place < length)]


@dataclass(frozen=True, eq=False)
class Exam:
    """Images with poses that nobody was taught with. tolerance: by what share a mark may be worse."""

    name: str
    views: Views
    tolerance: float = 0.0


@dataclass(frozen=True, eq=False)
class Mark:
    """How a regressor did in an exam."""

    median_m: float
    median_deg: float
    score: float      # median of the distance in pose units plus the angle in radians, as in training; less is better
    xi: Tensor        # [N, 6] residuals

    def __str__(self) -> str:
        return f'{self.median_m:.3f} m / {self.median_deg:.2f} deg'


def sit(exam: Exam, regressor: nn.Module, scene: SceneNormalisation, device: torch.device) -> Mark:
    T, truth = predict_poses(regressor, exam.views.images, scene, device), exam.views.T_map_cam
    error_m, error_deg = pose_errors(T, truth)
    score = (error_m / scene.pose_unit_m + torch.deg2rad(error_deg)).median().item()
    return Mark(error_m.median().item(), error_deg.median().item(), score, residuals(T, truth))


def passed(exam: Exam, before: Mark, after: Mark) -> bool:
    return after.score < before.score * (1 + exam.tolerance)
