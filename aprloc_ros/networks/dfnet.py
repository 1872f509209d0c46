"""DFNet: a PoseNet whose backbone also gives features for matching (DFNet section 3.1, supplement 1.1)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.layers import LEVEL_COUNT, initialise
from aprloc_ros.networks.posenet import PoseNet

FEATURE_LEVELS = (0, 1, 2)  # fine, middle, coarse
_MAX_CHANNELS = 1024


class DFNet(PoseNet):
    """Pose regressor and feature extractor on one backbone. The paper's backbone is VGG-16."""

    def __init__(self, backbone: str = 'vgg16', width: float = 1.0, pool: str = 'average',
                 feature_hidden: int = 64, feature_channels: int = 128):
        super().__init__(backbone, width, pool)
        for key, value in (('feature_hidden', feature_hidden), ('feature_channels', feature_channels)):
            if type(value) is not int or not 1 <= value <= _MAX_CHANNELS:
                raise AprlocError(f'{key} {value!r} must be a whole number from 1 to {_MAX_CHANNELS}')
        self.adapters = nn.ModuleList(_adapter(self.backbone.levels[level][0], feature_hidden, feature_channels)
                                      for level in FEATURE_LEVELS)

    def features(self, image: Tensor, levels: Sequence[int] = FEATURE_LEVELS) -> list[Tensor]:
        """Feature maps of the image's size. The backbone runs only as far as the coarsest of `levels`.

        image: [B, 3, H, W] RGB in [0, 1]; levels: from 0 (fine) to 2 (coarse) -> a [B, C, H, W] for each of them.
        """
        maps = self.backbone(self.normalised(image), count=max(levels) + 1)
        return self._adapted(maps, levels, image.shape[-2:])

    def pose_and_features(self, image: Tensor, levels: Sequence[int] = FEATURE_LEVELS,
                          upscale: bool = True) -> tuple[Tensor, list[Tensor]]:
        """What `forward` and `features` return, from one pass of the backbone.

        upscale: False leaves the feature maps at their own strides; a mean over a map then costs far less.
        """
        maps = self.backbone(self.normalised(image), count=LEVEL_COUNT)
        if not upscale:
            return self.head(maps[-1]), [self.adapters[level](maps[level]) for level in levels]
        return self.head(maps[-1]), self._adapted(maps, levels, image.shape[-2:])

    def _adapted(self, maps: Sequence[Tensor], levels: Sequence[int], size: Sequence[int]) -> list[Tensor]:
        return [interpolate(self.adapters[level](maps[level]), size, mode='bilinear', align_corners=False)
                for level in levels]


def _adapter(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    adapter = nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.ReLU(inplace=True),
                            nn.Conv2d(hidden, outputs, 5, padding=2, bias=False), nn.BatchNorm2d(outputs))
    initialise(adapter)
    return adapter
