"""From a feature map to a 3x4 pose."""

import torch
from torch import Tensor, nn

from aprloc_ros import geometry
from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.layers import conv_norm, initialise

POOLS = ('average', 'grid')
_GRID = (4, 5)           # rows, columns
_GRID_CHANNELS = 32


class PoseHead(nn.Module):
    """Pools a feature map and regresses 12 numbers, the raw 3x4 pose (Direct-PoseNet Table 6).

    pool: 'average' is the paper's global average. 'grid' is ours: it reduces the channels to 32 and averages in
    4x5 cells, which keeps where in the image things are; a small network trained from scratch needs that.
    """

    def __init__(self, channels: int, pool: str = 'average'):
        super().__init__()
        if pool not in POOLS:
            raise AprlocError(f'pool {pool!r} is not one of {", ".join(POOLS)}')
        if pool == 'average':
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            inputs = channels
        else:
            reduce = conv_norm(channels, _GRID_CHANNELS, activation=nn.ReLU)
            initialise(reduce)
            self.pool = nn.Sequential(reduce, nn.AdaptiveAvgPool2d(_GRID), nn.Flatten())
            inputs = _GRID_CHANNELS * _GRID[0] * _GRID[1]
        self.fc = nn.Linear(inputs, 12)
        # Small weights, and a bias of [I | 0]: the first predictions are all near the identity.
        nn.init.normal_(self.fc.weight, std=0.1 / inputs ** 0.5)
        with torch.no_grad():
            self.fc.bias.copy_(torch.eye(3, 4).flatten())

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> raw pose [B, 3, 4], its rotation not projected."""
        return self.fc(self.pool(features)).unflatten(-1, (3, 4))


def to_T(pose: Tensor) -> Tensor:
    """Raw pose [B, 3, 4] -> rigid T_map_cam [B, 4, 4], float64 on the CPU (Direct-PoseNet Eq. 5-6).

    Raises AprlocError where the regressor predicted NaN or infinity.
    """
    pose = pose.to('cpu', torch.float64)
    if not torch.isfinite(pose).all():
        raise AprlocError('the regressor predicted a pose that is not finite; its weights are damaged: rebuild the map')
    return geometry.pose(geometry.nearest_rotation(pose[..., :3]), pose[..., 3])
