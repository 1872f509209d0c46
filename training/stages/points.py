"""The points of a map: chosen among the triangulated ones for coverage and matchability, described by their views."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import invert
from aprloc_ros.networks.extractor import COARSE_STRIDE, FINE_STRIDE, Extractor, Features
from aprloc_ros.points import MapPoints, position_among
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.nre_loss import sample, to_cells

_GRID = 8            # parts along the longer side of a view within which points compete
_HIT_CELLS = 1.5     # a point is matched where the best cell is this near


@dataclass(frozen=True, eq=False)
class _Sighting:
    """One view's points and where it sees them."""

    view: int
    points: Tensor   # [N] int64
    pixels: Tensor   # [N, 2]


@torch.inference_mode()
def build_points(extractor: Extractor, views: Views, points: SparsePoints, count: int, show: bool = True) -> MapPoints:
    """At most `count` points with descriptors averaged over the views that saw them.

    views: of the training frames at the extractor's camera; points: with observations indexed like the views.
    """
    sightings = _sightings(views, points)
    coarse, fine = _averages(extractor, views, sightings, len(points.xyz), show)
    priority = torch.zeros(len(points.xyz))
    for sighting, features in _features(extractor, views, sightings, show):
        priority.index_add_(0, sighting.points, _votes(sighting, features, coarse, views.camera))
    chosen = priority.argsort(descending=True)[:count].sort().values
    chosen = chosen[priority[chosen] > 0]
    position = position_among(chosen, len(points.xyz))
    seen = [kept[kept >= 0] for kept in (position[s.points] for s in sightings)]
    offsets = torch.tensor([0, *(len(s) for s in seen)]).cumsum(0)
    return MapPoints(points.xyz[chosen], coarse[chosen], fine[chosen],
                     views.T_map_cam[[s.view for s in sightings]], offsets, torch.cat(seen))


def _sightings(views: Views, points: SparsePoints) -> list[_Sighting]:
    found = []
    T_cam_map = invert(views.T_map_cam)
    for view in points.observations[:, 0].unique().tolist():
        index = points.observations[points.observations[:, 0] == view, 1].unique()
        T = T_cam_map[view]
        pixels, inside = views.camera.project(points.xyz[index] @ T[:3, :3].T + T[:3, 3])
        if inside.any():
            found.append(_Sighting(view, index[inside], pixels[inside]))
    return found


def _features(extractor: Extractor, views: Views, sightings: list[_Sighting], show: bool):
    device = next(extractor.parameters()).device
    for sighting in tqdm(sightings, desc='describing points', disable=not show, leave=False, mininterval=2.0):
        image = views.images[sighting.view].to(device).float()[None] / 255
        features = extractor(image.contiguous(memory_format=torch.channels_last))
        yield sighting, replace(features, coarse=features.coarse.float().cpu(), fine=features.fine.float().cpu(),
                                coarse_scale=features.coarse_scale.cpu(), fine_scale=features.fine_scale.cpu())


def _averages(extractor: Extractor, views: Views, sightings: list[_Sighting], count: int,
              show: bool) -> tuple[Tensor, Tensor]:
    """Descriptors of all points, [P, Cc] and [P, Cf], of unit length."""
    sums = None
    for sighting, features in _features(extractor, views, sightings, show):
        maps = (features.coarse[0], COARSE_STRIDE), (features.fine[0], FINE_STRIDE)
        if sums is None:
            sums = [torch.zeros(count, len(feature_map)) for feature_map, _ in maps]
        for total, (feature_map, stride) in zip(sums, maps):
            found = F.normalize(sample(feature_map, to_cells(sighting.pixels, stride)), dim=1)
            total.index_add_(0, sighting.points, found)
    coarse, fine = (F.normalize(total, dim=1) for total in sums)
    return coarse, fine


def _votes(sighting: _Sighting, features: Features, coarse: Tensor, camera: Camera) -> Tensor:
    """A view's say in which points are kept, [N]: in each part of the image 1 for the point whose coarse map is the
    surest about the right place, 1/2 for the next, and so on; nothing for a point that would be matched elsewhere."""
    feature_map = features.coarse[0]
    logits = features.coarse_scale * coarse[sighting.points] @ feature_map.flatten(1)
    sureness, best = logits.softmax(1).max(1)
    width = feature_map.shape[2]
    cells = to_cells(sighting.pixels, COARSE_STRIDE)
    hit = (torch.stack([best % width, best // width], 1) - cells).norm(dim=1) <= _HIT_CELLS
    side = max(camera.width, camera.height) / _GRID
    part = (sighting.pixels[:, 1] // side * _GRID + sighting.pixels[:, 0] // side).long().clamp_min(0)
    order = (part * 2 - torch.where(hit, sureness, -1.0)).argsort()
    rank = torch.arange(len(order)) - torch.searchsorted(part[order].contiguous(), part[order].contiguous())
    votes = torch.zeros(len(order))
    votes[order] = 0.5 ** rank
    return votes * hit
