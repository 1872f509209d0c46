"""A map's points and those of a later drive as the points of one map: what is one place and looks alike once, and bounded."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from aprloc_ros.geometry import distances
from aprloc_ros.patches import Patches
from aprloc_ros.points import MapPoints, position_among

_SAME_PLACE = 0.01   # of the distance from where a point was seen
_SAME_LOOK = 0.8     # cosine of coarse descriptors


def grown(old: MapPoints, new: MapPoints, most: int) -> MapPoints:
    """Both in one map of at most `most` points.

    A new point that lies where an old one does and looks like it is that one, which keeps its descriptors: the views of the
    new drive saw it. One that looks otherwise there stays, as a second look of the place. Beyond the bound those go that
    the fewest views saw.
    """
    same = _same_points(old, new)
    fresh = same < 0
    position = torch.where(fresh, len(old) + fresh.cumsum(0) - 1, same)
    patches = old.patches and _with_patches(old.patches, new.patches, torch.where(fresh, position, -1), len(old.view_poses))
    sightings = [position[new.of_view(view)].unique() for view in range(len(new.view_poses))]
    counts = torch.cat([old.view_offsets.diff(), torch.tensor([len(each) for each in sightings])])
    both = MapPoints(*(torch.cat([a, b[fresh]]) for a, b in ((old.xyz, new.xyz), (old.coarse, new.coarse), (old.fine, new.fine))),
                     torch.cat([old.view_poses, new.view_poses]), torch.cat([old.view_offsets[:1], counts.cumsum(0)]),
                     torch.cat([old.view_points, *sightings]), patches)
    return _most_seen(both, most)


def _same_points(old: MapPoints, new: MapPoints) -> Tensor:
    """For each new point the old one that it is, -1 for none: [N]."""
    reach_m = _SAME_PLACE * _seen_from_m(new)
    alike = new.coarse @ old.coarse.T
    alike[distances(new.xyz, old.xyz) > reach_m[:, None]] = -1.0
    likeness, nearest = alike.max(1)
    return torch.where(likeness >= _SAME_LOOK, nearest, -1)


def _seen_from_m(points: MapPoints) -> Tensor:
    """The least distance of each point from the views that saw it, [P]."""
    distance_m = (points.view_poses[points.view_of, :3, 3] - points.xyz[points.view_points]).norm(dim=1)
    least = torch.full((len(points),), torch.inf, dtype=torch.float64)
    return least.scatter_reduce(0, points.view_points, distance_m, 'amin')


def _with_patches(old: Patches, new: Patches | None, position: Tensor, views: int) -> Patches:
    """views: of the old map, which the new ones follow."""
    if new is None:
        return old
    more = new.of_points(position)
    more = replace(more, view=torch.where(more.view < 0, -1, more.view + views))
    return Patches(*(torch.cat([getattr(each, column.name) for each in (old, more)]) for column in fields(Patches)))


def _most_seen(points: MapPoints, most: int) -> MapPoints:
    if len(points) <= most:
        return points
    seen = torch.bincount(points.view_points, minlength=len(points))
    chosen = seen.argsort(descending=True, stable=True)[:most].sort().values
    position = position_among(chosen, len(points))
    kept = position[points.view_points] >= 0
    counts = torch.bincount(points.view_of[kept], minlength=len(points.view_poses))
    return MapPoints(points.xyz[chosen], points.coarse[chosen], points.fine[chosen], points.view_poses,
                     torch.cat([points.view_offsets[:1], counts.cumsum(0)]), position[points.view_points[kept]],
                     points.patches and points.patches.of_points(position))
