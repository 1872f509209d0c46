"""A second teacher of the descriptors: what XFeat, which light hardly disturbs, says of the same points in unchanged images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.images.xfeat import CELL, CHANNELS, INSTALL, fitted, load_xfeat
from aprloc_ros.training.stages.nre_loss import sample, to_cells

_AT_ONCE = 8


class Teacher(nn.Module):
    """Learns how to say with the descriptors [N, C] what XFeat says of the same points."""

    def __init__(self, channels: int, views: Views):
        """AprlocError where the network is not installed."""
        super().__init__()
        network = load_xfeat()
        if network is None:
            raise AprlocError(f'descriptors.teacher is xfeat, which is not installed: {INSTALL}, or leave the teacher out')
        self._said = nn.Linear(channels, CHANNELS)
        self._maps = _maps(network, views)

    def loss(self, view: int, descriptors: Tensor, pixels: Tensor) -> Tensor:
        """One less the cosine, [N]: of descriptors [N, C] of points that the unchanged view has at pixels [N, 2]."""
        wanted = sample(self._maps[view].to(descriptors), to_cells(pixels, CELL))
        return 1 - F.cosine_similarity(self._said(descriptors), wanted, dim=1)


@torch.no_grad()
def _maps(network: nn.Module, views: Views) -> Tensor:
    """Of all views, [V, 64, h / 8, w / 8] half."""
    return torch.cat([network(fitted(part))[0].half() for part in views.images.split(_AT_ONCE)])
