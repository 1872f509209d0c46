"""The neural reprojection error of descriptors in a feature map, as a loss (NRE sections 4 and 6)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.networks.extractor import Features
from aprloc_ros.training.stages.partition import log_partition


def nre(descriptors: Tensor, feature_map: Tensor, scale: Tensor, cells: Tensor) -> Tensor:
    """Neural reprojection error with s_n = 1 (NRE Eq. 4) of N points at N places of one image's feature map.

    descriptors [N, C], feature_map [C, H, W], cells [N, 2] (x, y) in cells -> [N]. A bilinear interpolation of
    -ln softmax(z) is logsumexp(z) minus the interpolation of z, which is linear in the features.
    """
    there = (sample(feature_map, cells) * descriptors).sum(-1)
    return log_partition(scale * descriptors, feature_map.flatten(1)) - scale * there


def sample(feature_map: Tensor, cells: Tensor) -> Tensor:
    """Bilinear interpolation: [C, H, W] at cells [N, 2] (x, y) -> [N, C]."""
    height, width = feature_map.shape[1:]
    grid = (2 * cells + 1) / torch.tensor([width, height], device=cells.device, dtype=cells.dtype) - 1
    sampled = F.grid_sample(feature_map[None], grid[None, None].to(feature_map), align_corners=False,
                            padding_mode='border')
    return sampled[0, :, 0].T


def to_cells(pixels: Tensor, stride: int) -> Tensor:
    """Pixel coordinates [..., 2] -> cell coordinates of a map of that stride."""
    return (pixels + 0.5) / stride - 0.5


def pair_loss(features: Features, cells: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum over both heads and both directions of the mean NRE of pairs (2i, 2i + 1) of images (Eq. 10).

    cells: for each image the coarse and fine cells [N, 2] of its pair's common points.
    """
    losses = []
    for target in range(len(cells)):
        source = target ^ 1
        for maps, scale, level in ((features.coarse, features.coarse_scale, 0), (features.fine, features.fine_scale, 1)):
            h = F.normalize(sample(maps[source], cells[source][level]), dim=1)
            losses.append(nre(h, maps[target], scale, cells[target][level]).mean())
    return 2 * torch.stack(losses).mean()
