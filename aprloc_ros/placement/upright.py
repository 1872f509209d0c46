"""Where up is, by cameras that somebody carries or drives level."""

import math

import torch
from torch import Tensor

from aprloc_ros.geometry import nearest_rotation, skew, so3_exp, so3_log

_ROUNDS = 20
_FEW_HEADINGS = 0.05   # of the x axes' spread: with less, all look the same way and say nothing about pitch


def up_of_cameras(T_map_cam: Tensor) -> tuple[Tensor, float]:
    """Poses [N, 4, 4] -> the unit vector [3] in the map that is up, and its standard deviation in radians.

    A camera that does not roll has its x axis level, so up is what all x axes are at right angles to: the direction of
    their least second moment, reweighted against those that do roll (Cauchy). Where all cameras look the same way, their
    mean y axis decides what the x axes leave open, and the deviation is one radian.
    """
    x, down = T_map_cam[:, :3, 0].double(), T_map_cam[:, :3, 1].double().mean(0)
    weights = torch.ones(len(x), dtype=torch.float64)
    for _ in range(_ROUNDS):
        values, vectors = torch.linalg.eigh((weights[:, None] * x).T @ x / weights.sum())
        off = (x @ vectors[:, 0]).abs()
        weights = 1 / (1 + (off / (2 * off.median()).clamp_min(1e-9)) ** 2)
    if values[1] < _FEW_HEADINGS ** 2:
        level = vectors[:, 2]
        up = -(down - (down @ level) * level)
        return up / up.norm().clamp_min(1e-9), 1.0
    up = vectors[:, 0] if vectors[:, 0] @ down <= 0 else -vectors[:, 0]
    # Huber, Robust Statistics, section 6.3: the spread of the reweighted over the mean slope of what is summed, 2 w^2 - w.
    spread = ((weights * off) ** 2).mean().sqrt() / (2 * weights ** 2 - weights).mean().clamp_min(0.1)
    return up, (spread / (values[1] * len(x)).sqrt()).item() + 1e-9


def rotation_between(a: Tensor, b: Tensor) -> Tensor:
    """The smallest rotation [3, 3] that takes the unit vector a [3] to b [3]."""
    axis, cosine = torch.linalg.cross(a, b), (a @ b).clamp(-1, 1)
    if cosine < -1 + 1e-9:   # any axis at right angles
        axis = torch.linalg.cross(a, torch.eye(3, dtype=a.dtype)[a.abs().argmin()])
        return so3_exp(math.pi * axis / axis.norm())
    K = skew(axis)
    return torch.eye(3, dtype=a.dtype) + K + K @ K / (1 + cosine)


def mean_rotation(R: Tensor) -> Tensor:
    """Of [N, 3, 3], against outliers: chordal, weighted by how far each is from the last one."""
    mean = nearest_rotation(R.mean(0))
    for _ in range(_ROUNDS):
        angle = so3_log(R @ mean.T).norm(dim=1)
        weight = 1 / (1 + (angle / angle.median().clamp_min(1e-9)) ** 2)
        mean = nearest_rotation((weight[:, None, None] * R).sum(0))
    return mean
