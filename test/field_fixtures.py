"""Rays, and fields whose pictures are known."""

import torch
from torch import nn

from aprloc_ros.fields.field import Field
from aprloc_ros.fields.rendering import RayBatch, Samples

NEAR, FAR = 0.5, 4.5


class Analytic(Field):
    """A field whose density, colour and features are functions of the points; the coarse pass sees the same density."""

    beta_min = 0.05

    def __init__(self, density, rgb=lambda points: points.sigmoid(), coarse_samples=64, fine_samples=0, feature=None):
        super().__init__()
        self.density, self.rgb, self.feature = density, rgb, feature
        self.feature_channels = 0 if feature is None else feature(torch.zeros(1, 3)).shape[-1]
        self.coarse_samples, self.fine_samples = coarse_samples, fine_samples
        self.unused = nn.Parameter(torch.zeros(1))

    def coarse(self, points, directions, histogram):
        return Samples(self.density(points), None)

    def fine(self, points, directions, histogram, *, transient, features=False):
        return Samples(self.density(points), self.rgb(points), features=self.feature(points) if features else None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_rays(count=20, seed=0):
    directions = torch.cat([0.4 * torch.randn(count, 2, generator=seeded(seed)), torch.ones(count, 1)], -1)
    histogram = torch.rand(count, 10, generator=seeded(seed + 1)).softmax(-1)
    return RayBatch(0.3 * torch.randn(count, 3, generator=seeded(seed + 2)), directions, histogram)


def wall(depth, sigma=1e4):
    return Analytic(lambda points: sigma * (points[..., 2] > depth).float(), coarse_samples=256)
