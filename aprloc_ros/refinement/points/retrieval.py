"""Which points of a map to look for in an image: those of the views that look like it, or that are near a start."""

import math

import torch
from torch import Tensor

from aprloc_ros.geometry import distances
from aprloc_ros.points import MapPoints, position_among

_ASKED = 1500   # points at most that are looked for in an image to know the views that it is like


class ViewIndex:
    """Knows which views of a place an image is like: those whose points all find something like themselves in it.

    The likeness of a view is the mean over its points of the best cosine anywhere in the coarse map. One descriptor pooled
    from the whole image would be spoiled by whatever covers part of it; this leaves the rest its say.
    """

    def __init__(self, points: MapPoints, device: torch.device):
        asked = torch.arange(0, len(points), max(1, math.ceil(len(points) / _ASKED)))
        self._descriptors = points.coarse[asked].to(device)
        row = position_among(asked, len(points))[points.view_points]
        self._view, self._row = points.view_of[row >= 0], row[row >= 0]
        self._counts = torch.bincount(self._view, minlength=len(points.view_poses))

    def likeness(self, coarse: Tensor) -> Tensor:
        """coarse [C, h, w] of an image, unit length -> [V] in [-1, 1] on the CPU; -1 for a view without points."""
        best = (self._descriptors @ coarse.flatten(1)).amax(1).cpu()
        sums = torch.zeros(len(self._counts)).index_add(0, self._view, best[self._row])
        return torch.where(self._counts > 0, sums / self._counts.clamp_min(1), -1.0)


def retrieve_views(points: MapPoints, likeness: Tensor, starts: Tensor, count: int, near_starts: int) -> Tensor:
    """Indices of the `count` views most like the image, by their likeness [V], and of the near_starts nearest to each start.

    starts [S, 4, 4] T_map_cam.
    """
    similar = likeness.topk(min(count, len(likeness))).indices
    return torch.unique(torch.cat([similar, _nearest_views(points, starts, near_starts)]))


def _nearest_views(points: MapPoints, starts: Tensor, count: int) -> Tensor:
    """By distance, in units of the views' spread, plus the angle between the optical axes, in radians."""
    if not count or not len(starts):
        return torch.zeros(0, dtype=torch.int64)
    centres, axes = points.view_poses[:, :3, 3], points.view_poses[:, :3, 2]
    spread_m = (centres - centres.mean(0)).norm(dim=1).median().clamp_min(1e-9)
    distance = distances(starts[:, :3, 3], centres) / spread_m
    angle = torch.acos((starts[:, :3, 2] @ axes.T).clamp(-1, 1))
    return (distance + angle).topk(min(count, len(centres)), dim=1, largest=False).indices.flatten()


def retrieve_points(points: MapPoints, views: Tensor, most: int) -> Tensor:
    """Indices of the points that the views saw, at most `most`: those that most of them saw first, spread evenly."""
    spans = [points.of_view(view) for view in views.tolist()]
    if not spans:
        return torch.zeros(0, dtype=torch.int64)
    index, votes = torch.unique(torch.cat(spans), return_counts=True)
    if len(index) <= most:
        return index
    # Ties are broken by a fixed shuffle: neighbours in the list are neighbours in the place.
    shuffle = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
    order = shuffle[votes[shuffle].argsort(descending=True, stable=True)]
    return index[order[:most]].sort().values


def rows_of_views(points: MapPoints, views: Tensor, chosen: Tensor) -> list[Tensor]:
    """For each view which of the chosen points [N] (ascending) it saw, as rows of them."""
    position = position_among(chosen, len(points))
    rows = [position[points.of_view(view)] for view in views.tolist()]
    return [found[found >= 0] for found in rows]
