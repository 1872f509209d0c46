"""The papers' multi-layer perceptrons: Direct-PoseNet's NeRF and DFNet's histogram-assisted NeRF."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.fields.encodings import FrequencyEncoding
from aprloc_ros.fields.exposure import NoEmbedding
from aprloc_ros.fields.field import Field
from aprloc_ros.fields.rendering import Samples
from aprloc_ros.histogram import BINS


class Trunk(nn.Module):
    """Position -> hidden state: `depth` layers of `width` with the encoded input fed in again after `skip` layers."""

    def __init__(self, channels: int, depth: int, width: int, skip: int = 4):
        super().__init__()
        self.skip = skip
        self.layers = nn.ModuleList(
            nn.Linear(channels if i == 0 else width + (channels if i == skip else 0), width) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for i, layer in enumerate(self.layers):
            h = F.relu(layer(torch.cat([x, h], -1) if i == self.skip and i > 0 else h))
        return h


class ColourHead(nn.Module):
    """Hidden state, encoded direction and appearance -> rgb in [0, 1] (NeRF's view branch)."""

    def __init__(self, width: int, extra: int, hidden: int = 64):
        super().__init__()
        self.bottleneck = nn.Linear(width, width)
        self.hidden = nn.Linear(width + extra, hidden)
        self.rgb = nn.Linear(hidden, 3)

    def forward(self, h: Tensor, *extras: Tensor) -> Tensor:
        return self.rgb(F.relu(self.hidden(torch.cat([self.bottleneck(h), *extras], -1)))).sigmoid()


class TransientHead(nn.Module):
    """Hidden state and appearance -> density, rgb and uncertainty of what does not stay (NeRF-W; three layers)."""

    def __init__(self, width: int, extra: int, hidden: int = 64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width + extra, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                    nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 5))

    def forward(self, h: Tensor, appearance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        density, rgb, beta = self.layers(torch.cat([h, appearance], -1)).split([1, 3, 1], -1)
        return F.softplus(density[..., 0]), rgb.sigmoid(), F.softplus(beta[..., 0])


class Nerf(Field):
    """Direct-PoseNet's NeRF (section 3.2, supplement Fig. 5): one network, uniform samples, coarse-to-fine encoding."""

    def __init__(self, bands: int = 8, direction_bands: int = 4, depth: int = 8, width: int = 128,
                 coarse_samples: int = 128):
        super().__init__()
        self.coarse_samples, self.fine_samples = coarse_samples, 0
        self.position, self.direction = FrequencyEncoding(bands), FrequencyEncoding(direction_bands)
        self.trunk = Trunk(self.position.channels, depth, width)
        self.density = nn.Linear(width, 1)
        self.colour = ColourHead(width, self.direction.channels)

    def set_progress(self, progress: float):
        self.position.set_progress(progress)
        self.direction.set_progress(progress)

    def fine(self, points: Tensor, directions: Tensor, histogram: Tensor, *, transient: bool,
             features: bool = False) -> Samples:
        """points [R, S, 3], directions [R, 3], histogram [R, 10] (unused: this field knows one exposure)."""
        h = self.trunk(self.position(points))
        return Samples(F.softplus(self.density(h)[..., 0]), self.colour(h, _along(self.direction, directions, h)))


class NerfHist(Field):
    """Histogram-assisted NeRF (DFNet section 3.2): a base network for the coarse pass, static and transient heads."""

    reuses_coarse_samples = True

    def __init__(self, bands: int = 10, direction_bands: int = 4, depth: int = 8, width: int = 128,
                 coarse_samples: int = 64, fine_samples: int = 64, static_embedding: int = 50,
                 transient_embedding: int = 20, beta_min: float = 0.1):
        super().__init__()
        self.coarse_samples, self.fine_samples, self.beta_min = coarse_samples, fine_samples, beta_min
        self.position, self.direction = FrequencyEncoding(bands), FrequencyEncoding(direction_bands)
        self.base, self.trunk = (Trunk(self.position.channels, depth, width) for _ in range(2))
        self.base_density, self.density = nn.Linear(width, 1), nn.Linear(width, 1)
        self.static_embedding = nn.Linear(BINS, static_embedding) if static_embedding else NoEmbedding()
        self.transient_embedding = nn.Linear(BINS, transient_embedding)
        self.base_colour = ColourHead(width, self.direction.channels + static_embedding)
        self.colour = ColourHead(width, self.direction.channels + static_embedding)
        self.transient = TransientHead(width, transient_embedding)

    def set_progress(self, progress: float):
        self.position.set_progress(progress)
        self.direction.set_progress(progress)

    def coarse(self, points: Tensor, directions: Tensor, histogram: Tensor) -> Samples:
        """The base network's density and colour, at points [R, S, 3]."""
        h = self.base(self.position(points))
        appearance = _spread(self.static_embedding(histogram), h)
        rgb = self.base_colour(h, _along(self.direction, directions, h), appearance)
        return Samples(F.softplus(self.base_density(h)[..., 0]), rgb)

    def fine(self, points: Tensor, directions: Tensor, histogram: Tensor, *, transient: bool,
             features: bool = False) -> Samples:
        """Static head, and the transient one and the features' when asked for, at points [R, S, 3]."""
        h = self.trunk(self.position(points))
        appearance = _spread(self.static_embedding(histogram), h)
        rgb = self.colour(h, _along(self.direction, directions, h), appearance)
        density = F.softplus(self.density(h)[..., 0])
        described = self.feature_head(h) if features and self.feature_head else None
        if not transient:
            return Samples(density, rgb, features=described)
        return Samples(density, rgb, *self.transient(h, _spread(self.transient_embedding(histogram), h)), described)


def _spread(per_ray: Tensor, h: Tensor) -> Tensor:
    return per_ray.unsqueeze(1).expand(*h.shape[:-1], -1)


def _along(encoding: FrequencyEncoding, directions: Tensor, h: Tensor) -> Tensor:
    return _spread(encoding(F.normalize(directions, dim=-1)), h)
