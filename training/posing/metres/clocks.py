"""Whether two recorded movements are of one clock, and by how much they differ if not."""

import torch
from torch import Tensor

from aprloc_ros.geometry import so3_log
from aprloc_ros.recordings.trajectory import Trajectory

SEARCHED_S = 2.0
_STEP_S, _FINE_STEP_S = 0.05, 0.01
_LIKE = 0.5            # mean correlation below which the two are not the same movement
_CLEARLY = 0.01        # better than without an offset
_VARIES = 0.02         # of the mean: less is noise
_TURNS_RAD = 0.01      # turns that vary less are noise, too
_SMALL_S = 0.03        # not worth a word


def clock_offset(stamps_s: Tensor, T_map_cam: Tensor, trajectory: Trajectory, max_gap_s: float) -> tuple[float, float]:
    """Images at stamps [N] with poses [N, 4, 4] -> (seconds to add to the images' stamps, likeness of the movements there).

    Compared are how far and how much the camera and the body move and turn between neighbouring images: numbers that know
    neither the unit nor the mount. Likeness is the mean of both correlations, 1 at best, each counted by how much the camera's
    steps vary; 1 where they do not vary at all, and so tell nothing. The offset is 0 unless another one is clearly better.
    """
    cam, best_s, best = _steps(T_map_cam), 0.0, -1.0
    here = _likeness(cam, stamps_s, trajectory, max_gap_s)
    for reach_s, step_s in ((SEARCHED_S, _STEP_S), (_STEP_S, _FINE_STEP_S)):
        count = round(reach_s / step_s)
        for offset_s in [best_s + step_s * number for number in range(-count, count + 1)]:
            likeness = _likeness(cam, stamps_s + offset_s, trajectory, max_gap_s)
            if likeness > best:
                best, best_s = likeness, offset_s
    if best < here + _CLEARLY or abs(best_s) < _SMALL_S:
        return 0.0, here
    return best_s, best


def same_movement(likeness: float) -> bool:
    return likeness >= _LIKE


def _likeness(cam: Tensor, stamps_s: Tensor, trajectory: Trajectory, max_gap_s: float) -> float:
    T, known = trajectory.at(stamps_s, max_gap_s)
    both = known[1:] & known[:-1]
    if both.sum() < 0.5 * len(both):
        return -1.0
    body, cam = _steps(T)[both], cam[both]
    varies = cam.std(0) / cam.mean(0).clamp_min(1e-12)
    varies[1] *= cam[:, 1].std() > _TURNS_RAD
    told = [(varies[k].item(), _correlation(cam[:, k], body[:, k])) for k in range(2) if varies[k] > _VARIES]
    return sum(weight * value for weight, value in told) / sum(weight for weight, _ in told) if told else 1.0


def _steps(T: Tensor) -> Tensor:
    """Distance and angle between neighbours, [N, 4, 4] -> [N - 1, 2]."""
    turn = so3_log(T[:-1, :3, :3].mT @ T[1:, :3, :3]).norm(dim=1)
    return torch.stack([(T[1:, :3, 3] - T[:-1, :3, 3]).norm(dim=1), turn], 1)


def _correlation(a: Tensor, b: Tensor) -> float:
    if b.std() < 1e-9:
        return 0.0
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()
