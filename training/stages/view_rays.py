"""Rays through the pixels of training views."""

import torch
from torch import Tensor

from aprloc_ros.fields.rendering import RayBatch
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.views import Views


class ViewRays:
    """In scene coordinates, on a device."""

    def __init__(self, views: Views, scene: SceneNormalisation, device: torch.device):
        self.views = views.to(device)
        self.directions = views.camera.directions().to(device)
        T_scene_cam = scene.camera_in_scene(views.T_map_cam).to(device)
        self.rotations, self.centres = T_scene_cam[:, :3, :3], T_scene_cam[:, :3, 3]

    def through(self, view: Tensor, v: Tensor, u: Tensor) -> tuple[RayBatch, Tensor]:
        """Rays of pixels (u, v) of views, [R] each, and the colours there, [R, 3]."""
        # Not a matrix product: autocast would round that to bfloat16.
        directions = (self.rotations[view] * self.directions[v, u].unsqueeze(1)).sum(-1)
        return RayBatch(self.centres[view], directions, self.views.histograms[view]), self.views.images[view, :, v, u].float() / 255
