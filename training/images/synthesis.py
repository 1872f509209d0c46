"""Random view synthesis: new training views from perturbed poses (DFNet section 3.3)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.fields.views import render_view
from aprloc_ros.geometry import distances, pose, so3_exp
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.views import Views


@dataclass(frozen=True)
class Renderer:
    """Renders a field small and enlarges to the regressor's input, as the paper does for speed."""

    field: nn.Module
    scene: SceneNormalisation
    camera: Camera        # of the regressor
    short_side: int       # pixels that are really rendered

    def render(self, T_map_cam: Tensor, histograms: Tensor, progress=None) -> Tensor:
        """[N, 4, 4], [N, 10] -> [N, 3, H, W] uint8 on the CPU. progress: called after each view."""
        small = self.camera.with_short_side(min(self.short_side, self.camera.width, self.camera.height))
        size = self.camera.height, self.camera.width
        images = torch.empty(len(T_map_cam), 3, *size, dtype=torch.uint8)
        for i, (T, histogram) in enumerate(zip(T_map_cam, histograms)):
            rgb, _ = render_view(self.field, self.scene, small, T, histogram)
            rgb = F.interpolate(rgb[None], size, mode='bilinear', align_corners=False)[0]
            images[i] = (rgb * 255).round().clamp(0, 255).byte().cpu()
            if progress:
                progress()
        return images


def random_poses(T_map_cam: Tensor, count: int, translation_m: float, rotation_deg: float, nearest_m: float,
                 generator: torch.Generator) -> Tensor:
    """Poses near random ones of T_map_cam [N, 4, 4] -> [count, 4, 4].

    Each is moved by up to translation_m in a random direction and turned by up to rotation_deg about a random axis; a
    move that ends farther than nearest_m (the paper's d_max) from every training pose is shortened to end within it.
    """
    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def direction():
        return F.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)
    start = T_map_cam[torch.randint(len(T_map_cam), (count,), generator=generator)]
    centres = T_map_cam[:, :3, 3]
    move = direction() * uniform(count, 1) * translation_m
    distance = distances(start[:, :3, 3] + move, centres).min(1, keepdim=True).values
    move = torch.where(distance > nearest_m, move * nearest_m / move.norm(dim=1, keepdim=True).clamp_min(1e-9), move)
    turn = so3_exp(direction() * uniform(count, 1) * math.radians(rotation_deg))
    return pose(start[:, :3, :3] @ turn, start[:, :3, 3] + move)


def nearest_histograms(T_map_cam: Tensor, views: Views) -> Tensor:
    """Histogram of the training image with the nearest training position: [N, 4, 4] -> [N, 10]."""
    nearest = distances(T_map_cam[:, :3, 3], views.T_map_cam[:, :3, 3]).argmin(1)
    return views.histograms[nearest]
