"""A map asked as if its drive had never been near: the views nearest to a query, and the points only they saw, left out."""

from dataclasses import replace

import torch
from torch import Tensor

from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.points import MapPoints, position_among

VIEWS_LEFT_OUT = (0, 2, 5, 10, 20)
_MOST = 0.5   # of the map's views: what is asked must remain a map of this place


def without_neighbourhood(bundle: MapBundle, T_map_cam: Tensor, count: int) -> MapBundle:
    """The map without the `count` views nearest to a pose [4, 4], at most half of them; nothing is trained anew.

    Descriptors and positions of points that other views saw too still know of what was left out.
    """
    points = bundle.points
    count = min(count, int(_MOST * len(points.view_poses)))
    if not count:
        return bundle
    nearest = points.remoteness_of_views(T_map_cam).topk(count, largest=False).indices
    return replace(bundle, points=without_views(points, nearest))


def without_views(points: MapPoints, views: Tensor) -> MapPoints:
    """The points that some other view than these [K] saw, these other views, and the patches that were cut from them."""
    kept = torch.ones(len(points.view_poses), dtype=torch.bool)
    kept[views] = False
    counts = points.view_offsets.diff()
    sightings = points.view_points[kept.repeat_interleave(counts)]
    seen = torch.unique(sightings)
    position = position_among(seen, len(points))
    offsets = torch.cat([points.view_offsets[:1], counts[kept].cumsum(0)])
    patches = points.patches and points.patches.of_points(position).of_views(torch.where(kept, kept.cumsum(0) - 1, -1))
    return MapPoints(points.xyz[seen], points.coarse[seen], points.fine[seen], points.view_poses[kept], offsets,
                     position[sightings], patches)
