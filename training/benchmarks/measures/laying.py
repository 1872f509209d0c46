"""One set of camera poses laid over another that is in a frame and a unit of its own."""

import math

from torch import Tensor

from aprloc_ros.geometry import nearest_rotation, pose_errors
from aprloc_ros.similarity import Similarity

_ROUNDS = 50
_FLOOR = 1e-9   # of the extent, and radians: exact poses have no spread


def laid_over(ours: Tensor, true: Tensor) -> Similarity:
    """The similarity that brings ours [N, 4, 4] nearest to the true poses of the same images [N, 4, 4].

    The likeliest one for errors of places and of orientations, each with a spread of its own, which is found too. Places alone
    (Umeyama, PAMI 1991) turn cameras that stand close together by what bends their places, and that would count as an error of
    every orientation.
    """
    ours, true = ours.double(), true.double()
    a, b = (T[:, :3, 3] - T[:, :3, 3].mean(0) for T in (ours, true))
    places, turns = b.T @ a, (true[:, :3, :3] @ ours[:, :3, :3].mT).sum(0)
    floor_m = _FLOOR * b.norm(dim=1).max()
    R = nearest_rotation(turns)
    for _ in range(_ROUNDS):   # each step is the best for the others as they are
        scale = ((R @ places.T).trace() / a.square().sum()).clamp(min=1e-12)
        spread_m = (b - scale * a @ R.T).square().mean().sqrt().clamp(min=floor_m)
        spread_rad = (R @ ours[:, :3, :3] - true[:, :3, :3]).square().sum((1, 2)).mean().div(6).sqrt().clamp(min=_FLOOR)
        R = nearest_rotation(scale * places / spread_m ** 2 + turns / (2 * spread_rad ** 2))
    translation = true[:, :3, 3].mean(0) - scale * R @ ours[:, :3, 3].mean(0)
    return Similarity(scale.item(), R, translation, math.inf, 'poses of the same images')


def errors_after_similarity(ours: Tensor, true: Tensor) -> tuple[float, float]:
    """Root mean squares in units of the truth and in degrees, [N, 4, 4], once ours are laid over the truth."""
    return tuple(values.square().mean().sqrt().item() for values in pose_errors(laid_over(ours, true).apply(ours), true))
