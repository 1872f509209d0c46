"""Dense loss maps of points in an image, truncated and stored sparsely (NRE section 5, Eq. 5-7, appendix D.1)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LossMaps:
    """N truncated loss maps over a map of cells: what each point has to say for its likeliest cells.

    The loss of Eq. 7 is ln|Omega| - gain, and everywhere else ln|Omega|.
    """

    cells: np.ndarray    # [N, K, 2] float32, (x, y)
    gains: np.ndarray    # [N, K] float32, not negative: ln|Omega| - L; 0 where a point has fewer than K such cells
    sureness: np.ndarray   # [N] float32, probability of the likeliest cell

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def best(self) -> np.ndarray:
        """Likeliest cell of each map, argmin of L, [N, 2]: what P3P takes (Eq. 8)."""
        return self.cells[np.arange(len(self)), self.gains.argmax(1)]

    def of(self, rows: np.ndarray, top: int) -> 'LossMaps':
        """Those of some rows, with their `top` likeliest cells."""
        return LossMaps(self.cells[rows, :top], self.gains[rows, :top], self.sureness[rows])

    def with_best(self, cells: np.ndarray) -> 'LossMaps':
        """The same, but for where the likeliest cell of each lies: [N, 2]."""
        moved = self.cells.copy()
        moved[np.arange(len(self)), self.gains.argmax(1)] = cells
        return LossMaps(moved, self.gains, self.sureness)


@torch.inference_mode()
def dense_maps(descriptors: Tensor, feature_map: Tensor, scale: Tensor) -> Tensor:
    """Logarithm of the correspondence maps, ln C of section 3: [N, C] with [C, H, W] -> [N, H * W]."""
    return torch.log_softmax(scale * descriptors @ feature_map.flatten(1), 1)


@torch.inference_mode()
def sparse_maps(log_maps: Tensor, width: int, top: int) -> LossMaps:
    """The `top` likeliest cells of each of N maps of that width, truncated at ln(1 + H W). log_maps [N, H * W]."""
    bound = math.log(1 + log_maps.shape[1])
    best, index = log_maps.topk(min(top, log_maps.shape[1]), 1)
    cells = torch.stack([index % width, index // width], -1)
    return LossMaps(cells.float().cpu().numpy(), (bound + best).clamp_min(0).cpu().numpy(),
                    best[:, 0].exp().cpu().numpy())


@torch.inference_mode()
def interpolated(log_maps: Tensor, width: int, cells: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Losses of Eq. 6, [N]: the truncated maps [N, H * W] of Eq. 7, bilinear at cells [N, 2]; ln|Omega| where not inside."""
    bound = math.log(1 + log_maps.shape[1])
    last = np.array([width - 1, log_maps.shape[1] // width - 1])
    cells = np.clip(np.where(inside[:, None], cells, 0), 0, last)
    corner = np.clip(np.floor(cells), 0, np.maximum(last - 1, 0)).astype(np.int64)
    share = cells - corner
    losses = np.zeros(len(cells))
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = np.minimum(corner + [right, down], last).T
        index = torch.from_numpy(y * width + x).to(log_maps.device)
        loss = (-log_maps.gather(1, index.unsqueeze(1))[:, 0]).clamp_max(bound).cpu().numpy()
        losses += loss * np.abs(1 - right - share[:, 0]) * np.abs(1 - down - share[:, 1])
    return np.where(inside, losses, bound)


@torch.inference_mode()
def local_maps(descriptors: Tensor, feature_map: Tensor, scale: Tensor, centres: Tensor, radius: int, top: int,
               log_within: Tensor) -> LossMaps:
    """Fine loss maps within windows (appendix D.1, steps 1-5).

    descriptors [N, C], feature_map [C, H, W], centres [N, 2] (x, y) in fine cells, of windows of 2 radius + 1 cells;
    log_within [N]: logarithm of how likely each point is in its window at all. That probability times a softmax within
    the window; truncated at ln(1 + H W).
    """
    height, width = feature_map.shape[1:]
    steps = torch.arange(-radius, radius + 1, device=centres.device)
    middle = centres.round().long()
    x, y = middle[:, :1] + steps, middle[:, 1:] + steps                                     # [N, S]
    inside = ((x >= 0) & (x < width)).unsqueeze(1) & ((y >= 0) & (y < height)).unsqueeze(2)  # [N, S, S]
    index = (y.clamp(0, height - 1) * width).unsqueeze(2) + x.clamp(0, width - 1).unsqueeze(1)
    rows = feature_map.flatten(1).T.contiguous()
    nearby = rows.index_select(0, index.flatten()).view(len(index), len(steps) ** 2, rows.shape[1])   # [N, S * S, C]
    logits = scale * torch.bmm(nearby, descriptors.unsqueeze(2))[..., 0]
    logits = logits.masked_fill(~inside.flatten(1), -math.inf)
    log_fine = torch.log_softmax(logits, 1) + log_within.unsqueeze(1)
    log_fine = torch.nan_to_num(log_fine, nan=-math.inf)   # a window that is all outside
    best, kept = log_fine.topk(min(top, log_fine.shape[1]), 1)
    side = len(steps)
    cells = torch.stack([x.gather(1, kept % side), y.gather(1, kept // side)], -1)
    gains = (math.log(1 + height * width) + best).clamp_min(0)
    return LossMaps(cells.float().cpu().numpy(), gains.cpu().numpy(), best[:, 0].exp().cpu().numpy())


@torch.inference_mode()
def log_coarse_within(coarse_maps: Tensor, coarse_width: int, fine_width: int, centres: Tensor, radius: int) -> Tensor:
    """Logarithm of the mean coarse probability of the coarse cells that each window touches, [N].

    coarse_maps [N, h * w]: ln C of the points; centres [N, 2] (x, y) in fine cells, of windows of 2 radius + 1.
    """
    ratio = fine_width / coarse_width
    probability = coarse_maps.exp().view(len(coarse_maps), -1, coarse_width)
    height = probability.shape[1]
    span = torch.arange(-math.ceil(radius / ratio), math.ceil(radius / ratio) + 1, device=centres.device)
    centre = ((centres.round() + 0.5) / ratio).floor().long()
    x, y = centre[:, :1] + span, centre[:, 1:] + span
    inside = ((x >= 0) & (x < coarse_width)).unsqueeze(1) & ((y >= 0) & (y < height)).unsqueeze(2)
    index = (y.clamp(0, height - 1) * coarse_width).unsqueeze(2) + x.clamp(0, coarse_width - 1).unsqueeze(1)
    found = probability.flatten(1).gather(1, index.flatten(1)) * inside.flatten(1)
    return (found.sum(1) / inside.flatten(1).sum(1).clamp_min(1)).clamp_min(1e-12).log()
