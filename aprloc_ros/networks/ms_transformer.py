"""MS-Transformer (Shavit, Ferens and Keller, ICCV 2021): one network for several places, which says in which of them it is."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.efficientnet import EfficientNetLite0

SIDE = 128             # pixels, of the square that images are squeezed into
_MOST = {'scenes': 1000, 'width': 1024, 'layers': 12, 'heads': 64, 'side': 1024}
_TAPS = 3, 5            # layers of the trunk whose maps are asked: strides 8 and 16
_CHANNELS = 40, 112     # of these
_STRIDES = 8, 16
_OF_A_POSE = 3, 9       # numbers of a position, and of a rotation matrix


class SceneTransformer(nn.Module):
    """A map of features, encoded, and asked one learned question for each scene (section 3.1 and Fig. 2)."""

    def __init__(self, scenes: int, channels: int, cells: int, width: int, layers: int, heads: int, numbers: int):
        """cells: along a side of the map; numbers: that the head regresses."""
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 1)
        self.rows, self.columns = (nn.Parameter(0.1 * torch.randn(cells, width // 2)) for _ in range(2))
        self.questions = nn.Parameter(torch.randn(scenes, width))
        settings = {'dim_feedforward': 2 * width, 'dropout': 0.0, 'activation': F.gelu, 'batch_first': True, 'norm_first': True}
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, heads, **settings), layers,
                                             enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, heads, **settings), layers, nn.LayerNorm(width))
        self.head = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, numbers))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, cells, cells] -> what each scene has to say, [B, scenes, width]."""
        where = torch.cat([self.rows[:, None].expand(-1, len(self.columns), -1),
                           self.columns[None].expand(len(self.rows), -1, -1)], 2)
        tokens = self.enter(features).flatten(2).mT + where.flatten(0, 1)
        return self.decoder(self.questions.expand(len(tokens), -1, -1), self.encoder(tokens))


class MSTransformer(nn.Module):
    """A trunk, a transformer for positions on its deeper map, one for orientations on the finer one, and a classifier.

    Images of any shape are squeezed into a square, so that the shape does not tell the scene. The orientation is a 3x3, as
    all of our regressors have it, where the paper has a quaternion, which has two signs.
    """

    def __init__(self, scenes: int, width: int = 96, layers: int = 2, heads: int = 4, side: int = SIDE):
        super().__init__()
        for key, value in (('scenes', scenes), ('width', width), ('layers', layers), ('heads', heads), ('side', side)):
            if type(value) is not int or not 1 <= value <= _MOST[key]:
                raise AprlocError(f'{key} {value!r} must be a whole number from 1 to {_MOST[key]}')
        if width % (2 * heads) or side % _STRIDES[1]:
            raise AprlocError(f'width {width} must be a multiple of twice the heads, {heads}, and side {side} of {_STRIDES[1]}')
        self.side = side
        self.trunk = EfficientNetLite0().features[:_TAPS[1] + 1]
        self.orientation, self.position = (
            SceneTransformer(scenes, channels, side // stride, width, layers, heads, numbers)
            for channels, stride, numbers in zip(_CHANNELS, _STRIDES, reversed(_OF_A_POSE), strict=True))
        self.classifier = nn.Linear(2 * width, 1)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] RGB in [0, 1] -> the trunk's maps, [B, 40, side / 8, side / 8] and [B, 112, side / 16, side / 16]."""
        squeezed = images
        if images.shape[-2:] != (self.side, self.side):
            squeezed = F.interpolate(images, (self.side, self.side), mode='bilinear', align_corners=False, antialias=True)
        fine = self.trunk[:_TAPS[0] + 1](2 * squeezed - 1)
        return fine, self.trunk[_TAPS[0] + 1:](fine)

    def answer(self, fine: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Of maps: logits of the scenes [B, N], and the raw pose in each [B, N, 3, 4], pose units of that scene."""
        oriented, placed = self.orientation(fine), self.position(deep)
        logits = self.classifier(torch.cat([oriented, placed], 2))[..., 0]
        turn = self.orientation.head(oriented).unflatten(2, (3, 3))
        return logits, torch.cat([turn, self.position.head(placed).unsqueeze(3)], 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] RGB in [0, 1] -> as `answer`."""
        return self.answer(*self.look(images))

    def of_scene(self, index: int) -> 'OneScene':
        return OneScene(self, index)


class OneScene(nn.Module):
    """A regressor like any other: what the network says of one of its scenes."""

    def __init__(self, network: MSTransformer, index: int):
        super().__init__()
        self.network, self.index = network, index

    def forward(self, image: Tensor) -> Tensor:
        """image: [B, 3, H, W] RGB in [0, 1] -> raw pose [B, 3, 4]; `pose_head.to_T` makes it rigid."""
        return self.network(image)[1][:, self.index]
