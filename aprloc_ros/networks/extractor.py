"""Descriptors for matching map points with an image: a coarse and a fine head on one encoder (NRE sections 5.3 and D.2).

The paper trains two networks; here both heads share an encoder, which halves a query's time.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.backbones import build_backbone
from aprloc_ros.networks.even_light import even_light
from aprloc_ros.networks.layers import conv_norm, initialise
from aprloc_ros.networks.posenet import IMAGENET_MEAN, IMAGENET_STD

COARSE_STRIDE, FINE_STRIDE = 8, 2
SIZE_MULTIPLE = 16   # images whose sides are multiples of this divide evenly into cells of both maps
COARSE_CHANNELS, FINE_CHANNELS = 64, 16
INPUTS = 'rgb', 'even_light'   # what the encoder sees: ImageNet-normalised colours, or those of even_light
_FIRST_SCALE = 20.0


@dataclass(frozen=True, eq=False)
class Features:
    """Dense descriptors of B images. Cell (i, j) of stride s has its centre at pixel (i + 0.5) s - 0.5.

    A correspondence map (NRE section 3) is softmax(scale * <h, F(x)>) over all cells x.
    """

    coarse: Tensor         # [B, Cc, h / 8, w / 8], unit length along the channels
    fine: Tensor           # [B, Cf, h / 2, w / 2], unit length along the channels
    coarse_scale: Tensor   # [] inverse temperature
    fine_scale: Tensor     # []
    context: Tensor        # [B, Cx, h / 32, w / 32], the encoder's coarsest map

    def to(self, device: torch.device | str) -> 'Features':
        return Features(*(getattr(self, each.name).to(device) for each in fields(self)))

    def __getitem__(self, index) -> 'Features':
        return Features(self.coarse[index], self.fine[index], self.coarse_scale, self.fine_scale, self.context[index])


class Extractor(nn.Module):
    """U-shaped: the encoder's maps at strides 2, 8 and 32, merged upwards."""

    def __init__(self, backbone: str = 'compact', width: float = 1.0, coarse_channels: int = COARSE_CHANNELS,
                 fine_channels: int = FINE_CHANNELS, input: str = 'rgb'):
        super().__init__()
        if input not in INPUTS:
            raise AprlocError(f'extractor: input is {input!r}; it must be {" or ".join(INPUTS)}')
        self.input = input
        self.backbone = build_backbone(backbone, width)
        (fine, fine_stride), (middle, middle_stride), (coarse, _), _ = self.backbone.levels
        if (fine_stride, middle_stride) != (FINE_STRIDE, COARSE_STRIDE):
            raise AprlocError(f'backbone {backbone!r} has maps of strides {fine_stride} and {middle_stride}; an '
                              f'extractor needs {FINE_STRIDE} and {COARSE_STRIDE}, as resnet34 and compact have')
        self.from_coarse = conv_norm(coarse, coarse_channels, 1)
        self.from_middle = conv_norm(middle, coarse_channels, 1)
        self.merge_coarse = conv_norm(coarse_channels, coarse_channels, 3, activation=nn.ReLU)
        self.coarse_head = nn.Conv2d(coarse_channels, coarse_channels, 1)
        self.to_fine = conv_norm(coarse_channels, fine, 1)
        self.from_fine = conv_norm(fine, fine, 1)
        self.merge_fine = conv_norm(fine, 2 * fine_channels, 3, activation=nn.ReLU)
        self.fine_head = nn.Conv2d(2 * fine_channels, fine_channels, 1)
        self.log_scales = nn.Parameter(torch.full((2,), _FIRST_SCALE).log())
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        for part in (self.from_coarse, self.from_middle, self.merge_coarse, self.to_fine, self.from_fine,
                     self.merge_fine, self.coarse_head, self.fine_head):
            initialise(part)

    def forward(self, image: Tensor) -> Features:
        """image: [B, 3, h, w] RGB in [0, 1]; h and w multiples of SIZE_MULTIPLE."""
        fine, middle, coarse = self.backbone(self._seen(image), count=3)
        merged = self.merge_coarse(F.relu(self.from_middle(middle) + _to_size_of(middle, self.from_coarse(coarse))))
        detailed = self.merge_fine(F.relu(self.from_fine(fine) + _to_size_of(fine, self.to_fine(merged))))
        scales = self.log_scales.exp()
        return Features(F.normalize(self.coarse_head(merged), dim=1), F.normalize(self.fine_head(detailed), dim=1),
                        scales[0], scales[1], coarse)

    def _seen(self, image: Tensor) -> Tensor:
        if self.input == 'rgb':
            return (image - self.mean) / self.std
        return even_light(image)


def _to_size_of(target: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(x, target.shape[-2:], mode='bilinear', align_corners=False)


def build_extractor(kind: str, arguments: Mapping[str, object]) -> Extractor:
    """An extractor with random weights, from what a manifest says of it. kind: 'nre'.

    Raises AprlocError for an unknown kind or argument, and for a value out of range.
    """
    if kind != 'nre':
        raise AprlocError(f'extractor kind {kind!r} is not nre')
    allowed = inspect.signature(Extractor).parameters
    for key, value in arguments.items():
        if key not in allowed:
            raise AprlocError(f'extractor has no argument {key!r}; it takes {", ".join(allowed)}')
        if key.endswith('_channels') and (type(value) is not int or not 4 <= value <= 1024):
            raise AprlocError(f'extractor: {key} is {value!r}; it must be a whole number from 4 to 1024')
    return Extractor(**arguments)
