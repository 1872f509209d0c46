"""Where a part of a drive lies in a map: what most of the images that the map believes agree about, turns and places alike."""

import torch
from torch import Tensor

from aprloc_ros.geometry import pose_errors
from aprloc_ros.placement.upright import mean_rotation
from aprloc_ros.similarity import Similarity

FEWEST = 4        # believed images of a part that agree about where it lies
_SHARE = 0.6      # of its believed images
_TRIED = 64       # images whose pairs are tried
_ROUNDS = 3
_FARTHEST = 5.0   # times as far from the ties as these are from one another: a scale and a turn of theirs reach no farther


def tie(T_part: Tensor, T_map: Tensor, reach_m: float, reach_deg: float) -> Similarity | None:
    """Of the same images, both [N, 4, 4] -> the change from the part's frame to the map's; None where too few agree on one.

    The turn is that of the images' own turns, not of their places: a robot that drives straight on has all its places on a line,
    about which any turn would do. Scale and shift are what most pairs of images fit, then least squares over all that do.
    """
    if len(T_part) < FEWEST:
        return None
    rotation = mean_rotation(T_map[:, :3, :3] @ T_part[:, :3, :3].mT)
    turned, there = T_part[:, :3, 3] @ rotation.T, T_map[:, :3, 3]
    scale, shift = _of_most(turned, there, reach_m)
    for _ in range(_ROUNDS):
        near = (scale * turned + shift - there).norm(dim=1) < reach_m
        if near.sum() < FEWEST:
            return None
        scale, shift = _fitted(turned[near], there[near])
    if not (torch.isfinite(scale) and scale > 0):
        return None
    change = Similarity(scale.item(), rotation, shift, 0.0, '')
    agreeing = agree(change.apply(T_part), T_map, reach_m, reach_deg).sum()
    return change if agreeing >= max(FEWEST, _SHARE * len(T_part)) else None


def agree(T: Tensor, T_map: Tensor, reach_m: float, reach_deg: float) -> Tensor:
    """Which of two runs of poses [N, 4, 4] are the same: [N] bool."""
    error_m, error_deg = pose_errors(T, T_map)
    return (error_m < reach_m) & (error_deg < reach_deg)


def within_reach(places: Tensor, ties: Tensor) -> Tensor:
    """Which of the places [M, 3] of a part are so near to its ties [N, 3] that these say where they are: [M] bool."""
    middle = ties.mean(0)
    apart = (ties - middle).square().sum(1).mean().sqrt()
    return (places - middle).norm(dim=1) <= _FARTHEST * apart


def _of_most(a: Tensor, b: Tensor, reach_m: float) -> tuple[Tensor, Tensor]:
    """Scale [] and shift [3] from a pair of places [N, 3] in both, the one that most others fit."""
    few = torch.linspace(0, len(a) - 1, min(_TRIED, len(a))).round().long()
    i, j = (few[each] for each in torch.triu_indices(len(few), len(few), 1))
    da, db = a[j] - a[i], b[j] - b[i]
    scale = (da * db).sum(1) / da.square().sum(1).clamp_min(1e-18)
    shift = b[i] - scale[:, None] * a[i]
    fits = (scale[:, None, None] * a + shift[:, None] - b).norm(dim=2) < reach_m
    best = fits.sum(1).argmax()
    return scale[best], shift[best]


def _fitted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Scale [] and shift [3] that take places [N, 3] nearest to the others, in the sum of squares."""
    middle_a, middle_b = a.mean(0), b.mean(0)
    a, b = a - middle_a, b - middle_b
    scale = (a * b).sum() / a.square().sum().clamp_min(1e-18)
    return scale, middle_b - scale * middle_a
