"""Where the points of a rendered surface may be in a query: their loss maps, as if they were points of the map (NRE section 5)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.refinement.feature_grid import FeatureGrid
from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.loss_maps import LossMaps, dense_maps, sparse_maps
from aprloc_ros.refinement.rendering.surface import Surface

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


def _counting(surface: Surface) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Of all points together, those that count: indices [M], positions [M, 3] and weights [M]."""
    weights = surface.weights.flatten()
    index = (weights > _LEAST_WEIGHT).nonzero()[:, 0]
    return index, surface.points.flatten(0, 1)[index].cpu().numpy(), weights[index].float().cpu().numpy()


def _weighted(losses: LossMaps, weights: np.ndarray) -> LossMaps:
    return LossMaps(losses.cells, losses.gains * weights[:, None], losses.sureness * weights)
