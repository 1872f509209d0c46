"""A scene of points whose descriptors are splatted into feature maps where a known camera sees them."""

import torch
from torch import nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import invert, pose, so3_exp
from aprloc_ros.networks.extractor import Features
from aprloc_ros.points import MapPoints
from aprloc_ros.refinement.refined import Query

CAMERA = Camera(320, 240, 260.0, 262.0, 158.7, 121.3)
SCALE = 30.0
NO_START = torch.zeros(0, 4, 4, dtype=torch.float64)


def truth(seed=0):
    """T_map_cam [4, 4] that looks at the cloud around (0, 0, 4)."""
    xi = 0.15 * torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return pose(so3_exp(xi[3:]), xi[:3])


def cloud(count=400, views=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(count, 3, generator=generator, dtype=torch.float64) * torch.tensor([5.0, 4.0, 3.0])
    xyz += torch.tensor([-2.5, -2.0, 2.5])

    def unit(rows, channels):
        return F.normalize(torch.randn(rows, channels, generator=generator), dim=1)
    return MapPoints(xyz, unit(count, 64), unit(count, 16), torch.stack([truth(10 + v) for v in range(views)]),
                     torch.arange(views + 1) * count, torch.arange(count).repeat(views))


class Painter(nn.Module):
    """An extractor that paints what a camera at T_map_cam sees of the points; outliers are painted elsewhere."""

    def __init__(self, points, T_map_cam, outliers=0.0, noise=0.0, copies=0.0, seed=2, camera=CAMERA):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        generator = torch.Generator().manual_seed(seed)
        T = invert(T_map_cam)
        pixels, seen = camera.project(points.xyz @ T[:3, :3].T + T[:3, 3])
        lost = torch.rand(len(points), generator=generator) < outliers
        elsewhere = torch.rand(len(points), 2, generator=generator, dtype=torch.float64) * torch.tensor([camera.width - 1.0, camera.height - 1.0])
        pixels = torch.where(lost[:, None], elsewhere, pixels)
        twice = torch.rand(len(points), generator=generator) < copies
        maps = []
        for descriptors, stride in ((points.coarse, 8), (points.fine, 2)):
            canvas = noise * torch.randn(descriptors.shape[1], camera.height // stride, camera.width // stride, generator=generator)
            canvas = _splat(canvas, descriptors[seen | lost], pixels[seen | lost], stride)
            maps.append(_splat(canvas, descriptors[twice], elsewhere[twice], stride))
        self.features = Features(*(F.normalize(m, dim=0)[None] for m in maps), torch.tensor(SCALE), torch.tensor(SCALE),
                                 torch.zeros(1, 1, 1, 1))
        self.seen, self.lost, self.pixels = seen, lost, pixels

    def forward(self, image):
        return self.features


def _splat(canvas, descriptors, pixels, stride):
    """Add bilinear footprints of the descriptors at the pixels."""
    height, width = canvas.shape[1:]
    cells = (pixels + 0.5) / stride - 0.5
    floor = cells.floor()
    for dx in (0, 1):
        for dy in (0, 1):
            at = floor + torch.tensor([dx, dy])
            weight = (1 - (cells - at).abs()).prod(1).float()
            x, y = at[:, 0].clamp(0, width - 1).long(), at[:, 1].clamp(0, height - 1).long()
            canvas = canvas.flatten(1).index_add(1, y * width + x, (weight[:, None] * descriptors).T).view_as(canvas)
    return canvas


def query():
    return Query(torch.zeros(3, 240, 320), CAMERA, torch.full((10,), 0.1))
