"""Whole pictures from a field."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields.field import Field
from aprloc_ros.fields.rendering import RayBatch, Rendering, render_rays
from aprloc_ros.scene import SceneNormalisation


class FeatureView(NamedTuple):
    """What a camera sees of the static scene, on the field's device."""

    rgb: Tensor        # [3, H, W] in [0, 1]
    features: Tensor   # [N_f, H, W], fused where the field has a fusion network
    depth_m: Tensor    # [H, W] along the optical axis
    opacity: Tensor    # [H, W] in [0, 1]


@torch.inference_mode()
def render_view(field: Field, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor, histogram: Tensor,
                chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """What a camera sees of the static scene at the exposure of `histogram`, H(P, y_I) of DFNet section 3.2.

    camera: rectified; T_map_cam [4, 4]; histogram [10].
    Returns rgb [3, H, W] in [0, 1] and depth along the optical axis [H, W] in metres, on the field's device.
    """
    rgb, depth_m = render_colours(field, scene, camera, T_map_cam, histogram, chunk)
    return rgb.clamp(0, 1), depth_m


def render_colours(field: Field, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor, histogram: Tensor,
                   chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """As render_view, but colours as the field says them, differentiable in T_map_cam where gradients are on."""
    parts = _rendered(field, scene, camera, T_map_cam, histogram, chunk, features=False)
    rgb, depth = (torch.cat(column) for column in zip(*((part.rgb, part.depth) for part in parts)))
    shape = camera.height, camera.width
    return rgb.float().T.reshape(3, *shape), depth.float().reshape(shape) * scene.scene_unit_m


def render_features(field: Field, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor, histogram: Tensor,
                    chunk: int = 4096) -> FeatureView:
    """The feature map that a camera would see (NeFeS Eq. 2-3), differentiable in T_map_cam where gradients are on.

    camera: rectified, of the size to render; T_map_cam [4, 4]; histogram [10]; chunk: rays at once.
    Raises AprlocError for a field without features.
    """
    check_features(field)
    parts = list(_rendered(field, scene, camera, T_map_cam, histogram, chunk, features=True))
    shape = camera.height, camera.width
    rgb, features = (torch.cat([getattr(part, name) for part in parts]).T.reshape(1, -1, *shape)
                     for name in ('rgb', 'features'))
    depth, opacity = (torch.cat([getattr(part, name) for part in parts]).reshape(shape)
                      for name in ('depth', 'opacity'))
    if field.fusion is not None:
        features = field.fusion(rgb, features)
    return FeatureView(rgb[0].clamp(0, 1), features[0], depth * scene.scene_unit_m, opacity)


def check_features(field: Field):
    """Raises AprlocError for a field that has no features to render."""
    if not field.feature_channels:
        raise AprlocError('the field has feature_channels 0, it must have 1 or more to render features; '
                          'rebuild the map with aprloc build')


def _rendered(field: Field, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor, histogram: Tensor,
              chunk: int, *, features: bool) -> Iterator[Rendering]:
    """Renderings of `chunk` rays each, through all pixel centres, row by row."""
    device = next(field.parameters()).device
    directions = camera.directions().view(-1, 3)
    T_scene_cam, histogram = scene.camera_in_scene(T_map_cam).to(device), histogram.to(device)
    for part in (directions.to(device) @ T_scene_cam[:3, :3].T).split(chunk):
        rays = RayBatch(T_scene_cam[:3, 3].expand_as(part), part, histogram.expand(len(part), -1))
        yield render_rays(field, rays, scene.near, scene.far, features=features)
