"""How the exposure of an image reaches the colours of a field."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from aprloc_ros.histogram import BINS

Exposure = Literal['embedding', 'act', 'none']   # into the static colour head, onto the rendered colour, not at all
EXPOSURES = get_args(Exposure)


class NoEmbedding(nn.Module):
    """In place of a histogram's embedding where the colour head gets none: [..., 10] -> [..., 0]."""

    def forward(self, histogram: Tensor) -> Tensor:
        return histogram[..., :0]


class AffineColour(nn.Module):
    """Exposure-adaptive affine colour transform (NeFeS section 3.2, ACT): K C_rend + b, K and b of the histogram."""

    def __init__(self, hidden: int = 32):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(BINS, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                    nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 12))
        # Near identity: an untrained transform leaves the colours as they are.
        nn.init.normal_(self.layers[-1].weight, std=1e-2)
        self.layers[-1].bias.data = torch.cat([torch.eye(3).flatten(), torch.zeros(3)])

    def forward(self, rgb: Tensor, histogram: Tensor) -> Tensor:
        """Rendered colours [R, 3] and luminance histograms [R, 10] -> [R, 3], not clamped to [0, 1]."""
        matrix, bias = self.layers(histogram).split([9, 3], -1)
        # Not a matrix product: autocast would round that to bfloat16.
        return (matrix.unflatten(-1, (3, 3)) * rgb.unsqueeze(-2)).sum(-1) + bias
