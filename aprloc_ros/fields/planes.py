"""The fast field: feature planes and a small grid with small heads, of the same interface as the papers' networks.

Three axis-aligned planes at two resolutions and one coarse grid replace the deep network on positions, and a density
grid of its own proposes where to sample. On a CPU this trains and renders two orders of magnitude faster.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.fields.exposure import AffineColour, Exposure, NoEmbedding
from aprloc_ros.fields.field import Field
from aprloc_ros.fields.fusion import Fusion
from aprloc_ros.fields.rendering import Samples
from aprloc_ros.histogram import BINS

_INSIDE = 0.9   # share of each axis for the bounds; what lies beyond is squashed into the rest
_DENSITY_UNIT = 20.0   # per scene unit: a wall of raw density 5 is opaque within a hundredth of the scene
_DIRECTION_CHANNELS = 9


class PlaneField(Field):
    """bounds: lowest and highest corner of the scene in scene units, [2][3].

    Sizes: plane_sizes and grid_size in cells along each axis, features per cell; heads of `hidden` units.
    NeFeS's features: `feature_channels` of them, from the state and planes of colour and from `feature_plane_sizes` of
    their own, and a fusion network of `fusion_hidden` channels; 0 leaves either out.
    """

    def __init__(self, bounds: list, plane_sizes: list, grid_size: int = 40, features: int = 8, hidden: int = 64,
                 proposal_size: int = 64, coarse_samples: int = 48, fine_samples: int = 20, embedding: int = 16,
                 beta_min: float = 0.1, exposure: Exposure = 'embedding', feature_channels: int = 0,
                 feature_plane_sizes: Sequence[int] = (), fusion_hidden: int = 0):
        super().__init__()
        self.coarse_samples, self.fine_samples, self.beta_min = coarse_samples, fine_samples, beta_min
        low, high = torch.tensor(bounds, dtype=torch.float32)
        if low.shape != (3,) or not (low < high).all():
            raise ValueError(f'bounds {bounds} must be the lowest, then the highest corner')
        for name, sizes in (('plane_sizes', plane_sizes), ('feature_plane_sizes', feature_plane_sizes)):
            if min(sizes, default=1) < 1 or not plane_sizes:
                raise ValueError(f'{name} {sizes} must be whole numbers from 1')
        self.register_buffer('centre', (low + high) / 2, persistent=False)
        self.register_buffer('half_extent', (high - low) / 2, persistent=False)
        self.planes = nn.ParameterList(0.1 * torch.randn(3, features, size, size) for size in plane_sizes)
        self.grid = nn.Parameter(0.1 * torch.randn(1, features, grid_size, grid_size, grid_size))
        self.proposal = nn.Parameter(torch.full((1, 1, *(proposal_size,) * 3), -2.0))
        self.state = hidden // 2
        channels = features * (3 * len(plane_sizes) + 1)
        self.trunk = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1 + self.state))
        appearance = embedding if exposure == 'embedding' else 0
        self.static_embedding = _embedding(embedding) if appearance else NoEmbedding()
        self.transient_embedding = _embedding(embedding)
        self.colour = nn.Sequential(nn.Linear(self.state + _DIRECTION_CHANNELS + appearance, hidden), nn.ReLU(),
                                    nn.Linear(hidden, 3))
        self.transient = nn.Sequential(nn.Linear(self.state + embedding, self.state), nn.ReLU(),
                                       nn.Linear(self.state, 5))
        # Behind the rest: what is drawn at random for density and colour does not depend on the features.
        self.act = AffineColour() if exposure == 'act' else None
        if feature_channels:
            self._add_features(feature_channels, feature_plane_sizes, features, channels + self.state, hidden)
            self.fusion = Fusion(feature_channels, fusion_hidden) if fusion_hidden else None

    def _add_features(self, feature_channels: int, sizes: Sequence[int], per_cell: int, inputs: int, hidden: int):
        self.feature_channels = feature_channels
        self.feature_planes = nn.ParameterList(0.1 * torch.randn(3, per_cell, size, size) for size in sizes)
        self.feature_head = nn.Sequential(nn.Linear(inputs + 3 * len(sizes) * per_cell, hidden), nn.ReLU(),
                                          nn.Linear(hidden, feature_channels))

    def _cell(self, points: Tensor) -> Tensor:
        u = (points - self.centre) / self.half_extent
        outside = u.abs().clamp_min(1.0)
        return torch.where(u.abs() <= 1, _INSIDE * u, u.sign() * (1 - (1 - _INSIDE) / outside))

    def coarse(self, points: Tensor, directions: Tensor, histogram: Tensor) -> Samples:
        """Proposal density at points [R, S, 3]; it has no colour of its own."""
        cells = self._cell(points).view(1, 1, 1, -1, 3)
        logits = F.grid_sample(self.proposal, cells, align_corners=True, padding_mode='border')
        return Samples(_density(logits.view(points.shape[:-1])), None)

    def fine(self, points: Tensor, directions: Tensor, histogram: Tensor, *, transient: bool,
             features: bool = False) -> Samples:
        """Static head, and the transient one and the features' when asked for, at points [R, S, 3]."""
        rays, count = points.shape[:2]
        cells = self._cell(points.reshape(-1, 3))
        stored = torch.cat([_sampled(self.planes, cells), self._volume(cells)]).T
        density, h = self.trunk(stored).split([1, self.state], -1)
        h = F.relu(h)
        described = self._described(cells, stored, h).view(rays, count, -1) if features and self.feature_head else None
        h = h.view(rays, count, -1)
        per_ray = torch.cat([_harmonics(F.normalize(directions, dim=-1)), self.static_embedding(histogram)], -1)
        rgb = self.colour(torch.cat([h, per_ray.unsqueeze(1).expand(-1, count, -1)], -1)).sigmoid()
        density = _density(density.view(rays, count) - 2)
        if not transient:
            return Samples(density, rgb, features=described)
        embedding = self.transient_embedding(histogram).unsqueeze(1).expand(-1, count, -1)
        raw, colour, beta = self.transient(torch.cat([h, embedding], -1)).split([1, 3, 1], -1)
        return Samples(density, rgb, F.softplus(raw[..., 0] - 2), colour.sigmoid(), F.softplus(beta[..., 0]), described)

    def _volume(self, cells: Tensor) -> Tensor:
        """The grid at cells [N, 3] -> [features, N]."""
        return F.grid_sample(self.grid, cells.view(1, 1, 1, -1, 3), align_corners=True,
                             padding_mode='border').view(-1, len(cells))

    def _described(self, cells: Tensor, stored: Tensor, h: Tensor) -> Tensor:
        """Features [N, N_f] of what is stored for colour [N, channels], its state [N, S], and planes of their own."""
        own = [_sampled(self.feature_planes, cells).T] if len(self.feature_planes) else []
        return self.feature_head(torch.cat([stored, h, *own], -1))


def _embedding(channels: int) -> nn.Module:
    return nn.Sequential(nn.Linear(BINS, channels), nn.ReLU())


def _sampled(planes: nn.ParameterList, cells: Tensor) -> Tensor:
    """Triples of planes at cells [N, 3] -> [channels, N]."""
    flat = torch.stack([cells[:, [0, 1]], cells[:, [0, 2]], cells[:, [1, 2]]]).unsqueeze(2)   # [3, N, 1, 2]
    return torch.cat([F.grid_sample(plane, flat, align_corners=True, padding_mode='border').flatten(0, 1)
                      .view(-1, len(cells)) for plane in planes])


def _density(raw: Tensor) -> Tensor:
    return _DENSITY_UNIT * F.softplus(raw)


def _harmonics(d: Tensor) -> Tensor:
    """Spherical harmonics up to degree two without their constants: unit directions [..., 3] -> [..., 9]."""
    x, y, z = d.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)
