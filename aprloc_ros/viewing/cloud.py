"""What a map looks like from outside: coloured points where the field ends the light of training views, and cameras."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aprloc_ros.camera import Camera
from aprloc_ros.fields.rendering import RayBatch, Rendering, render_rays
from aprloc_ros.histogram import BINS
from aprloc_ros.scene import SceneNormalisation

EVEN_EXPOSURE = torch.full((BINS,), 1 / BINS)   # luminance histogram of an image that uses its whole range
RAYS = 24_000
VIEWS = 120            # at most so many poses are looked from
_MIN_OPACITY = 0.9     # less light than that ends on a surface: the sky, or nothing
_MAX_SPREAD = 0.1      # of the light along a ray, relative to its depth: more is an edge or fog
# Corners of an image at depth 1 as shares of its size, and the lines of a frustum between them and the centre (4).
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))
_LINES = (4, 0, 4, 1, 4, 2, 4, 3, 0, 1, 1, 2, 2, 3, 3, 0)


@dataclass(frozen=True, eq=False)
class Cloud:
    """Coloured points of the map."""

    xyz: Tensor   # [N, 3] float64, map frame, metres, on the CPU
    rgb: Tensor   # [N, 3] uint8


def map_cloud(field: nn.Module, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor,
              histogram: Tensor = EVEN_EXPOSURE, rays: int = RAYS, seed: int = 0) -> Cloud:
    """Where the field's surfaces are, as seen along about `rays` random rays of the views T_map_cam [V, 4, 4].

    camera: rectified; histogram [10]: the exposure of the colours. Rays that end on no surface give no point.
    """
    return join(cloud_parts(field, scene, camera, T_map_cam, histogram, rays, seed))


def cloud_parts(field: nn.Module, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor,
                histogram: Tensor = EVEN_EXPOSURE, rays: int = RAYS, seed: int = 0) -> Iterator[Cloud]:
    """map_cloud view by view, for whoever may have to stop in between."""
    generator = torch.Generator().manual_seed(seed)
    views = evenly(T_map_cam, VIEWS)
    for T in views:
        pixels = torch.rand(-(-rays // len(views)), 2, generator=generator)
        yield _view_cloud(field, scene, camera, T, histogram, pixels)


@torch.inference_mode()
def _view_cloud(field: nn.Module, scene: SceneNormalisation, camera: Camera, T_map_cam: Tensor, histogram: Tensor,
                pixels: Tensor) -> Cloud:
    """pixels: [R, 2] as shares of the image's width and height."""
    device = next(field.parameters()).device
    T_scene_cam = scene.camera_in_scene(T_map_cam.cpu()).to(device)
    directions = _directions(camera, pixels).to(device) @ T_scene_cam[:3, :3].T
    batch = RayBatch(T_scene_cam[:3, 3].expand_as(directions), directions,
                     histogram.to(device).expand(len(directions), -1))
    rendering = render_rays(field, batch, scene.near, scene.far)
    solid = _is_surface(rendering)
    points = batch.points(rendering.depth.unsqueeze(-1))[solid, 0].cpu()
    rgb = (rendering.rgb[solid].float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return Cloud(scene.points_to_map(points), rgb)


def _directions(camera: Camera, shares: Tensor) -> Tensor:
    """[..., 2] in [0, 1] of width and height -> [..., 3], z = 1 in the camera, float32."""
    u, v = shares[..., 0] * camera.width - 0.5, shares[..., 1] * camera.height - 0.5
    return torch.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, torch.ones_like(u)], -1).float()


def _is_surface(rendering: Rendering) -> Tensor:
    """Whether a ray's light ends in one place: [R] bool."""
    return (rendering.opacity > _MIN_OPACITY) & (rendering.spread < _MAX_SPREAD * rendering.depth)


def join(parts: Iterable[Cloud]) -> Cloud:
    """All points of the parts; none of no parts."""
    parts = [Cloud(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.uint8)), *parts]
    return Cloud(torch.cat([part.xyz for part in parts]), torch.cat([part.rgb for part in parts]))


def evenly(items: Tensor, count: int) -> Tensor:
    """At most `count` of the items [N, ...], the first and the last among them, evenly between."""
    if len(items) <= count:
        return items
    return items[torch.linspace(0, len(items) - 1, count).round().long()]


def frustum_lines(camera: Camera, T_map_cam: Tensor, depth_m: float) -> Tensor:
    """Cameras as pyramids with their image at depth_m: poses [V, 4, 4] -> ends of their lines, [V, 16, 3] float32.

    Each two points in a row are a line, as in a LINE_LIST marker.
    """
    corners = _directions(camera, torch.tensor(_CORNERS, dtype=torch.float64)).double() * depth_m
    vertices = torch.cat([corners, torch.zeros(1, 3, dtype=torch.float64)])
    T = T_map_cam.double().cpu()
    moved = vertices @ T[:, :3, :3].transpose(-1, -2) + T[:, None, :3, 3]
    return moved[:, list(_LINES)].float()
