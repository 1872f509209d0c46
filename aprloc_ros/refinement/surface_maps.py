"""Where the points of a rendered surface may be in a query: their loss maps, as if they were points of the map (NRE section 5)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.geometry import invert
from aprloc_ros.refinement.feature_grid import FeatureGrid
from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.loss_maps import LossMaps, dense_maps, local_maps, sparse_maps
from aprloc_ros.refinement.surface import Surface

_SHARPNESS = 25.0     # inverse temperature of a match: about what descriptors learn for themselves
_CELLS = 12           # kept of each map
_LEAST_WEIGHT = 0.2   # of a point that is asked for


@dataclass(frozen=True, eq=False)
class SurfaceMaps:
    """M points that count, and what the query says of where they are."""

    losses: LossMaps           # gains and sureness are times the points' weights
    xyz: np.ndarray            # [M, 3] float64, map frame
    camera: Pinhole            # of the maps' cells
    groups: list[np.ndarray]   # rows of the points that one start sees


def maps_anywhere(surface: Surface, grid: FeatureGrid) -> SurfaceMaps:
    """The likeliest cells of all of a grid for the points of all starts."""
    index, xyz, weights = _counting(surface)
    descriptors = F.normalize(surface.descriptors.flatten(0, 1)[index], dim=-1)
    log_maps = dense_maps(descriptors, grid.cells.T, torch.tensor(_SHARPNESS))
    start = (index // surface.weights.shape[1]).cpu().numpy()
    groups = [np.flatnonzero(start == s) for s in range(len(surface.weights))]
    return SurfaceMaps(_weighted(sparse_maps(log_maps, grid.camera.width, _CELLS), weights), xyz, Pinhole.of(grid.camera),
                       groups)


def maps_nearby(surface: Surface, grid: FeatureGrid, T_map_cam: Tensor, radius: int) -> SurfaceMaps:
    """The likeliest cells within `radius` of where a pose [4, 4] sees the points of a surface of one start."""
    index, xyz, weights = _counting(surface)
    camera = Pinhole.of(grid.camera)
    centres, _, _ = camera.project(xyz, invert(T_map_cam).cpu().numpy())
    descriptors = F.normalize(surface.descriptors[0][index], dim=-1)
    features = grid.cells.T.reshape(-1, camera.height, camera.width)
    # Nothing is known but that the point is somewhere: its chance to be in a window is the window's share of the cells.
    within = min(0.0, math.log((2 * radius + 1) ** 2 / len(grid.cells)))
    losses = local_maps(descriptors, features, torch.tensor(_SHARPNESS), torch.from_numpy(centres).to(descriptors), radius,
                        _CELLS, torch.full_like(descriptors[:, 0], within))
    return SurfaceMaps(_weighted(losses, weights), xyz, camera, [np.arange(len(xyz))])


def _counting(surface: Surface) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Of all points together, those that count: indices [M], positions [M, 3] and weights [M]."""
    weights = surface.weights.flatten()
    index = (weights > _LEAST_WEIGHT).nonzero()[:, 0]
    return index, surface.points.flatten(0, 1)[index].cpu().numpy(), weights[index].float().cpu().numpy()


def _weighted(losses: LossMaps, weights: np.ndarray) -> LossMaps:
    return LossMaps(losses.cells, losses.gains * weights[:, None], losses.sureness * weights)
