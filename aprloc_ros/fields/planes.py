"""The fast field: feature planes and a small grid with small heads, of the same interface as the papers' networks.

Three axis-aligned planes at two resolutions and one coarse grid replace the deep network on positions, and a density
grid of its own proposes where to sample. On a CPU this trains and renders two orders of magnitude faster.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.fields.rendering import Samples
from aprloc_ros.histogram import BINS

_INSIDE = 0.9   # share of each axis for the bounds; what lies beyond is squashed into the rest
_DENSITY_UNIT = 20.0   # per scene unit: a wall of raw density 5 is opaque within a hundredth of the scene
_DIRECTION_CHANNELS = 9


class PlaneField(nn.Module):
    """bounds: lowest and highest corner of the scene in scene units, [2][3].

    Sizes: plane_sizes and grid_size in cells along each axis, features per cell; heads of `hidden` units.
    """

    reuses_coarse_samples = False

    def __init__(self, bounds: list, plane_sizes: list, grid_size: int = 40, features: int = 8, hidden: int = 64,
                 proposal_size: int = 64, coarse_samples: int = 48, fine_samples: int = 20, embedding: int = 16,
                 beta_min: float = 0.1):
        super().__init__()
        self.coarse_samples, self.fine_samples, self.beta_min = coarse_samples, fine_samples, beta_min
        low, high = torch.tensor(bounds, dtype=torch.float32)
        if low.shape != (3,) or not (low < high).all():
            raise ValueError(f'bounds {bounds} must be the lowest, then the highest corner')
        if not plane_sizes or min(plane_sizes) < 1:
            raise ValueError(f'plane_sizes {plane_sizes} must be whole numbers from 1')
        self.register_buffer('centre', (low + high) / 2, persistent=False)
        self.register_buffer('half_extent', (high - low) / 2, persistent=False)
        self.planes = nn.ParameterList(0.1 * torch.randn(3, features, size, size) for size in plane_sizes)
        self.grid = nn.Parameter(0.1 * torch.randn(1, features, grid_size, grid_size, grid_size))
        self.proposal = nn.Parameter(torch.full((1, 1, *(proposal_size,) * 3), -2.0))
        self.state = hidden // 2
        channels = features * (3 * len(plane_sizes) + 1)
        self.trunk = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1 + self.state))
        self.static_embedding = nn.Sequential(nn.Linear(BINS, embedding), nn.ReLU())
        self.transient_embedding = nn.Sequential(nn.Linear(BINS, embedding), nn.ReLU())
        self.colour = nn.Sequential(nn.Linear(self.state + _DIRECTION_CHANNELS + embedding, hidden), nn.ReLU(),
                                    nn.Linear(hidden, 3))
        self.transient = nn.Sequential(nn.Linear(self.state + embedding, self.state), nn.ReLU(),
                                       nn.Linear(self.state, 5))

    def set_progress(self, progress: float):
        """Planes need no coarse-to-fine schedule."""

    def _cell(self, points: Tensor) -> Tensor:
        u = (points - self.centre) / self.half_extent
        outside = u.abs().clamp_min(1.0)
        return torch.where(u.abs() <= 1, _INSIDE * u, u.sign() * (1 - (1 - _INSIDE) / outside))

    def coarse(self, points: Tensor, directions: Tensor, histogram: Tensor) -> Samples:
        """Proposal density at points [R, S, 3]; it has no colour of its own."""
        cells = self._cell(points).view(1, 1, 1, -1, 3)
        logits = F.grid_sample(self.proposal, cells, align_corners=True, padding_mode='border')
        return Samples(_density(logits.view(points.shape[:-1])), None)

    def fine(self, points: Tensor, directions: Tensor, histogram: Tensor, *, transient: bool) -> Samples:
        """Static head, and the transient one when asked for, at points [R, S, 3]."""
        rays, count = points.shape[:2]
        density, h = self.trunk(self._features(points.reshape(-1, 3))).split([1, self.state], -1)
        h = F.relu(h).view(rays, count, -1)
        per_ray = torch.cat([_harmonics(F.normalize(directions, dim=-1)), self.static_embedding(histogram)], -1)
        rgb = self.colour(torch.cat([h, per_ray.unsqueeze(1).expand(-1, count, -1)], -1)).sigmoid()
        density = _density(density.view(rays, count) - 2)
        if not transient:
            return Samples(density, rgb)
        embedding = self.transient_embedding(histogram).unsqueeze(1).expand(-1, count, -1)
        raw, colour, beta = self.transient(torch.cat([h, embedding], -1)).split([1, 3, 1], -1)
        return Samples(density, rgb, F.softplus(raw[..., 0] - 2), colour.sigmoid(), F.softplus(beta[..., 0]))

    def _features(self, points: Tensor) -> Tensor:
        """[N, 3] -> [N, channels]."""
        cell = self._cell(points)
        flat = torch.stack([cell[:, [0, 1]], cell[:, [0, 2]], cell[:, [1, 2]]]).unsqueeze(2)   # [3, N, 1, 2]
        sampled = [F.grid_sample(plane, flat, align_corners=True, padding_mode='border').flatten(0, 1)
                   for plane in self.planes]
        volume = F.grid_sample(self.grid, cell.view(1, 1, 1, -1, 3), align_corners=True, padding_mode='border')
        return torch.cat([*(s.view(-1, len(points)) for s in sampled), volume.view(-1, len(points))]).T


def _density(raw: Tensor) -> Tensor:
    return _DENSITY_UNIT * F.softplus(raw)


def _harmonics(d: Tensor) -> Tensor:
    """Spherical harmonics up to degree two without their constants: unit directions [..., 3] -> [..., 9]."""
    x, y, z = d.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)
