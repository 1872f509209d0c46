"""What a field shows of a place along chosen rays: weighted points with descriptors."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.fields.rendering import RayBatch, render_rays
from aprloc_ros.scene import SceneNormalisation

_CANDIDATES = 2     # for each ray that is wanted: the better ones of them are taken
_DEPTH_SPREAD = 0.1   # of a ray's light, relative: weight 1/2


@dataclass(frozen=True, eq=False)
class Surface:
    """N points that each of S poses sees."""

    points: Tensor        # [S, N, 3] float64, map frame, metres
    descriptors: Tensor   # [S, N, C] float32
    weights: Tensor       # [S, N] float64 in [0, 1]: opacity, sharpness of the depth
    opacity: Tensor       # [S, N] in [0, 1]
    depth_m: Tensor       # [S, N]

    def __getitem__(self, index) -> 'Surface':
        """Those of some of the poses."""
        return Surface(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @property
    def median_depth_m(self) -> Tensor:
        """[S], of the points that count."""
        shown = self.depth_m.masked_fill(self.weights < 0.1, float('nan')).nanmedian(-1).values
        return shown.nan_to_num(0.0)


def choose_pixels(strength: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Pixels spread over the image, drawn with a chance that grows with their strength.

    strength: [H, W], 0 or more, finite -> [n, 2] float64 (u, v), n = min(count, H * W), the surest first, each somewhere
    in its pixel. One candidate for each of about 2 x count square cells, drawn within its cell (the Gumbel trick); the
    best are kept.
    """
    height, width = strength.shape
    side = max(1, int((height * width / (_CANDIDATES * count)) ** 0.5))
    uniform = torch.rand(strength.shape, generator=generator).to(strength.device)
    # Without strength anywhere all pixels are equal.
    floor = 0.01 * strength.mean() + 1e-12
    score = torch.log(strength + floor) - torch.log(-torch.log(uniform.clamp(1e-7, 1 - 1e-7)))
    best, index = F.max_pool2d(score[None], side, ceil_mode=True, return_indices=True)
    chosen = index.flatten()[best.flatten().argsort(descending=True)[:count]]
    # Interpolation averages noise away between pixels: were all points in the centres, that would draw them from there.
    place = torch.rand(len(chosen), 2, generator=generator, dtype=torch.float64).to(strength.device) - 0.5
    return torch.stack([chosen % width, chosen // width], -1) + place


def render_surface(radiance: nn.Module, scene: SceneNormalisation, camera: Camera, pixels: Tensor, T_map_cam: Tensor,
                   histogram: Tensor) -> Surface:
    """Render the rays through pixels [N, 2] of a rectified camera, from each of the poses [S, 4, 4] float64.

    Depth is the mean over the light that ended before the backdrop, descriptors are as the field renders them.
    """
    count, number = len(T_map_cam), len(pixels)
    T_scene_cam = scene.camera_in_scene(T_map_cam)
    focal = torch.tensor([camera.fx, camera.fy], dtype=pixels.dtype, device=pixels.device)
    centre = torch.tensor([camera.cx, camera.cy], dtype=pixels.dtype, device=pixels.device)
    directions = F.pad((pixels - centre) / focal, (0, 1), value=1.0).float()
    directions = directions @ T_scene_cam[:, :3, :3].mT
    rays = RayBatch(T_scene_cam[:, None, :3, 3].expand_as(directions).flatten(0, 1), directions.flatten(0, 1),
                    histogram.expand(count * number, -1))
    rendering = render_rays(radiance, rays, scene.near, scene.far, features=True)
    light, middles = rendering.static.weights[:, :-1], rendering.static.middles[:, :-1]
    opacity = light.sum(-1)
    mass = opacity.clamp_min(1e-6)
    depth = (light * middles).sum(-1) / mass
    variance = (light * (middles - depth.unsqueeze(-1)) ** 2).sum(-1) / mass
    sharpness = 1 / (1 + variance / (_DEPTH_SPREAD * depth).clamp_min(1e-9) ** 2)
    points = scene.points_to_map(rays.points(depth.unsqueeze(-1))[:, 0])
    shape = count, number
    return Surface(points.view(*shape, 3), rendering.features.float().view(*shape, -1),
                   (opacity * sharpness).view(shape).double(), opacity.view(shape), depth.view(shape) * scene.scene_unit_m)
