"""Whole pictures from a field."""

import torch
from torch import Tensor, nn

from aprloc_ros.camera import Camera
from aprloc_ros.fields.rendering import RayBatch, render_rays
from aprloc_ros.scene import SceneNormalisation


@torch.inference_mode()
def render_view(field: nn.Module, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor, histogram: Tensor,
                chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """What a camera sees of the static scene at the exposure of `histogram`, H(P, y_I) of DFNet section 3.2.

    camera: rectified; T_map_cam [4, 4]; histogram [10].
    Returns rgb [3, H, W] in [0, 1] and depth along the optical axis [H, W] in metres, on the field's device.
    """
    device = next(field.parameters()).device
    T_scene_cam, histogram = scene.camera_in_scene(T_map_cam).to(device), histogram.to(device)
    directions = camera.directions().to(device).view(-1, 3) @ T_scene_cam[:3, :3].T
    rgb, depth = [], []
    for part in directions.split(chunk):
        rays = RayBatch(T_scene_cam[:3, 3].expand_as(part), part, histogram.expand(len(part), -1))
        rendering = render_rays(field, rays, scene.near, scene.far)
        rgb.append(rendering.rgb)
        depth.append(rendering.depth)
    shape = camera.height, camera.width
    rgb = torch.cat(rgb).float().clamp(0, 1).T.reshape(3, *shape)
    return rgb, torch.cat(depth).float().reshape(shape) * scene.scene_unit_m
