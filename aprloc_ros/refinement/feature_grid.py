"""A feature map that is read at single points, with its exact slope, and how the points move with the camera."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.refinement.levenberg import Residuals

_NEAREST_M = 1e-6


def project(points: Tensor, T_map_cam: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Pinhole projection and its derivative by xi in T_map_cam @ exp(xi).

    points: [S, N, 3] in the map, T_map_cam [S, 4, 4], both float64
    -> pixels [S, N, 2], jacobian [S, N, 2, 6], in view [S, N] (bool).
    """
    in_camera = (points - T_map_cam[:, None, :3, 3]) @ T_map_cam[:, :3, :3]
    pixels, seen = camera.project(in_camera)
    i = in_camera[..., 2].clamp_min(_NEAREST_M).reciprocal()
    x, y, o = in_camera[..., 0] * i, in_camera[..., 1] * i, torch.zeros_like(i)
    du = camera.fx * torch.stack([-i, o, x * i, x * y, -1 - x * x, y], -1)
    dv = camera.fy * torch.stack([o, -i, y * i, 1 + y * y, -x * y, -x], -1)
    return pixels, torch.stack([du, dv], -2), seen


@dataclass(frozen=True, eq=False)
class FeatureGrid:
    """Features of an image, channels last, with the camera whose pixels its cells are."""

    cells: Tensor     # [H * W, C] float32, contiguous
    camera: Camera    # rectified, at least 2 x 2

    @classmethod
    def of(cls, features: Tensor, camera: Camera) -> 'FeatureGrid':
        """features: [C, H, W] of the camera's size."""
        return cls(features.flatten(1).T.contiguous(), camera)

    @property
    def channels(self) -> int:
        return self.cells.shape[1]

    def sample(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bilinear value and its derivatives by u and v: pixels [N, 2] -> three of [N, C].

        Beyond the outer cells' centres the map goes on as at its border.
        """
        width, height, channels = self.camera.width, self.camera.height, self.cells.shape[1]
        last = torch.tensor([width - 1, height - 1], dtype=pixels.dtype, device=pixels.device)
        inside = torch.minimum(pixels.clamp_min(0.0), last)
        corner = torch.minimum(inside.floor(), last - 1)
        share = (inside - corner).to(self.cells.dtype)
        free = (inside == pixels).to(self.cells.dtype)
        column, row = corner.long().unbind(-1)
        first = row * width + column
        # Two neighbours of a row lie side by side in memory: read them as one.
        pairs = self.cells.as_strided((len(self.cells) - 1, 2 * channels), (channels, 1))
        top = pairs.index_select(0, first)
        down = pairs.index_select(0, first + width) - top
        left, right = torch.addcmul(top, down, share[:, 1:]).split(channels, -1)
        du, dv = right - left, torch.lerp(down[:, :channels], down[:, channels:], share[:, :1])
        return torch.addcmul(left, du, share[:, :1]), du * free[:, :1], dv * free[:, 1:]

    def residuals(self, points: Tensor, descriptors: Tensor, T_map_cam: Tensor) -> Residuals:
        """The map at the projected points less their descriptors.

        points: [S, N, 3] float64 in the map; descriptors [S, N, C]; T_map_cam [S, 4, 4].
        """
        pixels, jacobian, seen = project(points, T_map_cam, self.camera)
        value, du, dv = self.sample(pixels.flatten(0, 1))
        r = value - descriptors.flatten(0, 1)
        squared = _dot(r, r).view(seen.shape)
        uv = _dot(du, dv)
        metric = torch.stack([_dot(du, du), uv, uv, _dot(dv, dv)], -1).view(*seen.shape, 2, 2)
        slope = torch.stack([_dot(du, r), _dot(dv, r)], -1).view(*seen.shape, 2)
        return Residuals(squared.double(), slope.double() * seen[..., None], metric.double() * seen[..., None, None],
                         jacobian, seen)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b)


def pooled(features: Tensor, camera: Camera, factor: int) -> FeatureGrid:
    """Unit-length features averaged over factor x factor cells and made unit length again.

    features: [C, H, W]; camera: of the features' size. Rows and columns that fill no whole cell are left out.
    """
    if factor == 1:
        return FeatureGrid.of(features, camera)
    averaged = F.normalize(F.avg_pool2d(features, factor), dim=0)
    height, width = averaged.shape[1:]
    return FeatureGrid.of(averaged, replace(
        camera, width=width, height=height, fx=camera.fx / factor, fy=camera.fy / factor,
        cx=(camera.cx + 0.5) / factor - 0.5, cy=(camera.cy + 0.5) / factor - 0.5))
