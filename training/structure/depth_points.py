"""Points of a place from dense depth: where SfM finds no tracks, or to compare with it."""

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aprloc_ros.fields.views import render_view
from aprloc_ros.geometry import invert
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.images.views import Views

_VIEWS, _PER_VIEW = 100, 300
_SAME_SURFACE = 0.03   # relative difference of depths


def points_from_field(field: nn.Module, scene: SceneNormalisation, views: Views, seed: int) -> SparsePoints:
    """Points on the surfaces that a field renders from evenly chosen views, seen by those with the same depth there."""
    chosen = evenly(len(views), _VIEWS)
    with tqdm(total=len(chosen), desc='rendering depths', leave=False, mininterval=2.0) as bar:
        depths_m = []
        for view in chosen:
            depths_m.append(render_view(field, scene, views.camera, views.T_map_cam[view], views.histograms[view])[1].cpu())
            bar.update()
    return points_from_depths(torch.stack(depths_m), views, torch.tensor(chosen), _PER_VIEW, torch.Generator().manual_seed(seed))


def points_from_depths(depths_m: Tensor, views: Views, chosen: Tensor, per_view: int,
                       generator: torch.Generator) -> SparsePoints:
    """Random pixels of depth images [V, H, W] of the chosen views [V], and which of these views see the same place."""
    _, height, width = depths_m.shape
    directions = views.camera.directions().double()
    xyz = []
    for depth_m, view in zip(depths_m, chosen.tolist()):
        pixel = torch.randperm(height * width, generator=generator)[:per_view]
        v, u = pixel // width, pixel % width
        T = views.T_map_cam[view]
        xyz.append(directions[v, u] * depth_m[v, u, None].double() @ T[:3, :3].T + T[:3, 3])
    xyz = torch.cat(xyz)
    observations = []
    for depth_m, view in zip(depths_m, chosen.tolist()):
        T_cam_map = invert(views.T_map_cam[view])
        cam = xyz @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]
        pixels, inside = views.camera.project(cam)
        point = inside.nonzero()[:, 0]
        u, v = pixels[point].round().long().T
        same = (cam[point, 2] / depth_m[v, u].double() - 1).abs() < _SAME_SURFACE
        observations.append(torch.stack([torch.full_like(point[same], view), point[same]], 1))
    return SparsePoints(xyz, torch.cat(observations))
