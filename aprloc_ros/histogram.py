"""The luminance histogram, in its one definition."""

import torch
from torch import Tensor

BINS = 10
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # Y of YUV, BT.601


def luminance(image: Tensor) -> Tensor:
    """Y of YUV. image: [..., 3, H, W] RGB in [0, 1] -> [..., H, W]."""
    weights = torch.tensor(_LUMA_WEIGHTS, dtype=image.dtype, device=image.device)
    return torch.einsum('...chw,c->...hw', image, weights)


def luminance_histogram(image: Tensor) -> Tensor:
    """Share of the pixels in each of ten equal luminance bins, rounded to per cent (DFNet section 3.2).

    image: [..., 3, H, W] RGB in [0, 1] -> [..., 10] float32 in [0, 1].
    """
    luma = luminance(image.float()).flatten(-2)
    bins = (luma * BINS).long().clamp_(0, BINS - 1)
    counts = torch.zeros(*bins.shape[:-1], BINS, device=image.device)
    counts.scatter_add_(-1, bins, torch.ones_like(luma))
    return (counts / luma.shape[-1] * 100).round() / 100
