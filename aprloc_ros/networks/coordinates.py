"""A regressor that looks through the map's descriptors: where in the place is each cell, and which pose fits that best."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.extractor import Extractor, Features
from aprloc_ros.networks.pose_fit import fit_pose

_FIRST_SHARPNESS = 30.0
_WIDEST = 5.0      # logarithm of the most and least deviation, about one of _USUAL cells
_USUAL = 1.0
_MOST = 2 ** 16    # prototypes and channels
_SMALLEST = 1e-3   # reach of a place, pose units
_LOST = 1e-3       # factor on the rotation of an image without a pose


class Coordinates(NamedTuple):
    """What N cells say."""

    xyz: Tensor         # [N, 3] in the place, pose units
    deviation: Tensor   # [N] how far off that may be, in cells as the camera sees it
    asked: Tensor       # [N, P] logits of the prototypes


class CoordinateRegressor(nn.Module):
    """Scene coordinates and a weighted fit, on the extractor's features.

    A cell's descriptor, moved by what is around it, asks the place's prototypes (attention: keys are descriptors, values
    are where these are), and a small network moves the answer and says how far it may be off. The keys begin as the
    descriptors of the map's points, so that what the extractor learned is where the training begins.

    The 3x3 that it returns is the rotation times the share of cells that agree: its distance from a rotation says how
    sure it is, as that of a regressed matrix does.
    """

    def __init__(self, prototypes: int = 2048, hidden: int = 192, descriptor_channels: int = 64, context_channels: int = 128):
        super().__init__()
        for key, value in (('prototypes', prototypes), ('hidden', hidden), ('descriptor_channels', descriptor_channels),
                           ('context_channels', context_channels)):
            if type(value) is not int or not 1 <= value <= _MOST:
                raise AprlocError(f'{key} {value!r} must be a whole number from 1 to {_MOST}')
        inputs = descriptor_channels + 2 * context_channels
        self.keys = nn.Parameter(F.normalize(torch.randn(prototypes, descriptor_channels), dim=1))
        self.values = nn.Parameter(torch.zeros(prototypes, 3))
        self.register_buffer('centre', torch.zeros(3))   # of the place, pose units
        self.register_buffer('reach', torch.ones(()))    # of it, by which it is divided, as networks like it
        self.log_sharpness = nn.Parameter(torch.tensor(_FIRST_SHARPNESS).log())
        self.ask = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                 nn.Linear(hidden, descriptor_channels))
        self.enter = nn.Linear(inputs + descriptor_channels + 4, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, 4)
        nn.init.zeros_(self.ask[-1].weight)
        nn.init.zeros_(self.ask[-1].bias)
        nn.init.normal_(self.leave.weight, std=0.01 / hidden ** 0.5)
        nn.init.zeros_(self.leave.bias)
        self._seen_through: tuple[Extractor, Camera] | None = None   # no part of its weights

    def see_through(self, extractor: Extractor, camera: Camera) -> 'CoordinateRegressor':
        """The map's extractor, and the camera that its images are of."""
        self._seen_through = extractor, camera
        return self

    def remember(self, descriptors: Tensor, xyz: Tensor) -> None:
        """Begin with these as prototypes: [M, C] and [M, 3] in pose units, again and again where there are too few."""
        rows = torch.arange(len(self.keys)) % len(xyz)
        with torch.no_grad():
            # As they are stored: another frame of the coordinates would move all poses.
            self.centre.copy_(xyz.median(0).values.half())
            self.reach.copy_((xyz - self.centre).norm(dim=1).median().clamp_min(_SMALLEST).half())
            self.keys.copy_(descriptors[rows])
            self.values.copy_(self.inward(xyz[rows]))

    def inward(self, xyz: Tensor) -> Tensor:
        """Pose units [..., 3] -> those of the prototypes' values."""
        return (xyz - self.centre) / self.reach

    def coordinates(self, inputs: Tensor) -> Coordinates:
        """inputs: [N, descriptor_channels + 2 context_channels] of `cell_inputs`."""
        descriptor = inputs[:, :self.keys.shape[1]]
        question = F.normalize(descriptor + self.ask(inputs), dim=1)
        asked = self.log_sharpness.exp() * question @ F.normalize(self.keys, dim=1).T
        told = asked.softmax(1)
        first = told @ self.values
        hidden = F.relu(self.enter(torch.cat([inputs, question, first, told.amax(1, keepdim=True)], 1)))
        left = self.leave(hidden + F.relu(self.middle(hidden)))
        deviation = _USUAL * torch.exp(_WIDEST * torch.tanh(left[:, 3] / _WIDEST))
        return Coordinates(self.centre + self.reach * (first + left[:, :3]), deviation, asked)

    def pose(self, features: Features, camera: Camera) -> Tensor:
        """Features of B images that `camera` took -> raw poses [B, 3, 4] on the features' device."""
        inputs = cell_inputs(features)
        height, width = inputs.shape[2:]
        cells = cell_centres(height, width)
        asked = cells.sum(1) % 2 == 0   # as on a chessboard: the others would say nearly the same
        fits = [self._fit(each.flatten(1).T[asked.to(each.device)], cells[asked], camera.resized(width, height)) for each in inputs]
        return torch.stack(fits).to(inputs)

    def _fit(self, inputs: Tensor, cells: Tensor, camera: Camera) -> Tensor:
        said = self.coordinates(inputs)
        fitted = fit_pose(said.xyz, said.deviation, cells, camera)
        if fitted is None:
            return torch.cat([_LOST * torch.eye(3), self.centre.cpu()[:, None]], 1).double()
        T_scene_cam, share = fitted
        return torch.cat([T_scene_cam[:3, :3] * share.clamp_min(_LOST), T_scene_cam[:3, 3:]], 1)

    def _apply(self, fn, recurse=True):
        """Goes where its extractor goes."""
        if self._seen_through:
            self._seen_through[0]._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, image: Tensor) -> Tensor:
        """image: [B, 3, H, W] RGB in [0, 1] -> raw pose [B, 3, 4]; `pose_head.to_T` makes it rigid."""
        extractor, camera = self._seen_through
        features = extractor(image.contiguous(memory_format=torch.channels_last))
        return self.pose(features, camera.resized(image.shape[3], image.shape[2]))


def cell_inputs(features: Features) -> Tensor:
    """What the cells of the coarse map [B, Cc, h, w] see: themselves, around them, and in all of the image, [B, Cc + 2 Cx, h, w]."""
    size = features.coarse.shape[-2:]
    around = F.interpolate(features.context, size, mode='bilinear', align_corners=False)
    return torch.cat([features.coarse, around, features.context.mean((2, 3), keepdim=True).expand(-1, -1, *size)], 1)


def cell_centres(height: int, width: int) -> Tensor:
    """(x, y) of all cells, row by row: [h * w, 2] float64, in cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.stack([x.flatten(), y.flatten()], 1).double()
