"""Encodings of positions and directions."""

import math

import torch
from torch import Tensor, nn


class FrequencyEncoding(nn.Module):
    """Positional encoding with coarse-to-fine activation of its bands (Direct-PoseNet Eq. 7-8).

    [..., 3] -> [..., 3 + 6 * bands]: the input itself, then sin and cos of 2^k pi x for each band k.
    """

    def __init__(self, bands: int):
        super().__init__()
        self.bands = bands
        self.channels = 3 + 6 * bands
        self.register_buffer('frequencies', math.pi * 2.0 ** torch.arange(bands), persistent=False)
        self.register_buffer('band_weights', torch.ones(bands), persistent=False)

    def set_progress(self, progress: float):
        """Weights of Eq. 8 with alpha = bands * progress; progress runs from 0 to 1, where every band is fully on."""
        alpha = self.bands * progress
        k = torch.arange(self.bands, device=self.band_weights.device)
        self.band_weights = (1 - torch.cos(math.pi * (alpha - k).clamp(0, 1))) / 2

    def forward(self, x: Tensor) -> Tensor:
        phase = x.unsqueeze(-2) * self.frequencies.unsqueeze(-1)
        weights = self.band_weights.unsqueeze(-1)
        bands = torch.stack([weights * phase.sin(), weights * phase.cos()], -2)
        return torch.cat([x, bands.flatten(-3)], -1)
