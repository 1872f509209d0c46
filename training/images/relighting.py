"""Another light on a view, at random and in linear light: what descriptors learn to look through."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_GAMMA = 2.2
_FIELD_SHARE, _SHADOW_SHARE, _GREY_SHARE = 0.6, 0.4, 0.15   # of images: lit unevenly, shaded in part, without colour
_FIELD_CELLS = 3, 8                     # of a field, down and across: from 3 to 7
_FIELD, _CAST, _CURVE = 1.6, 0.6, 0.4   # greatest logarithms, either way
_SIDES, _SHADE = 4, (0.5, 2.5)          # of a shadow, and the logarithm of what it takes
_GAINS = 0.1, 3.0
_NOISE = 0.005                          # greatest standard deviation, in linear light
_LEVELS = 255


def relight(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Uneven light, shadows, gain, cast, sensor noise, tone curve, rounding, no colour. [B, 3, H, W] in [0, 1] -> the same.

    strength: factor on all logarithms, and on the noise; 0 leaves the images as they are, up to the rounding.
    """
    count, device = len(images), images.device

    def spread(channels: int, limit: float) -> Tensor:
        u = torch.rand(count, channels, 1, 1, generator=generator, device=device)
        return (2 * u - 1) * limit * strength

    low, high = map(math.log, _GAINS)
    log_gain = (low + high) / 2 * strength + spread(1, (high - low) / 2)
    uneven = _fields(images, generator) + _shadows(images, generator)
    light = torch.exp(log_gain + spread(3, _CAST) + strength * uneven)
    amount = _NOISE * strength * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    grain = torch.randn(images.shape, generator=generator, device=device)
    lit = (images.clamp(0, 1) ** _GAMMA * light + amount * grain).clamp(1e-6, 1)
    seen = lit ** (torch.exp(spread(1, _CURVE)) / _GAMMA)
    grey = torch.rand(count, 1, 1, 1, generator=generator, device=device) < _GREY_SHARE * min(1.0, strength)
    seen = torch.where(grey, seen.mean(1, keepdim=True), seen)
    return (seen * _LEVELS).round() / _LEVELS


def _fields(images: Tensor, generator: torch.Generator) -> Tensor:
    """Logarithms of smooth light, [B, 1, H, W]; 0 where it is even."""
    fields = []
    for _ in images:
        cells = torch.randint(*_FIELD_CELLS, (2,), generator=generator, device=images.device).tolist()
        u = 2 * torch.rand(1, 1, *cells, generator=generator, device=images.device) - 1
        smooth = F.interpolate(_FIELD * u, images.shape[-2:], mode='bicubic', align_corners=False)
        there = torch.rand(1, generator=generator, device=images.device) < _FIELD_SHARE
        fields.append(smooth * there)
    return torch.cat(fields)


def _shadows(images: Tensor, generator: torch.Generator) -> Tensor:
    """Logarithms of light, [B, 1, H, W], of which a convex shadow with a sharp edge takes a part; 0 outside."""
    count, _, height, width = images.shape
    u = torch.rand(4 + 2 * _SIDES, count, 1, 1, generator=generator, device=images.device)
    y, x = (torch.linspace(0, 1, side, device=images.device) for side in (height, width))
    inside = (u[0] < _SHADOW_SHARE).expand(count, height, width)
    for distance, turn in zip(u[4:4 + _SIDES], u[4 + _SIDES:]):
        angle = 2 * math.pi * turn
        inside = inside & ((x - u[1]) * angle.cos() + (y[:, None] - u[2]) * angle.sin() < 0.1 + 0.5 * distance)
    least, most = _SHADE
    return -(inside * (least + (most - least) * u[3])).unsqueeze(1)
