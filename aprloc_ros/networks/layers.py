"""What the backbones share: the scaling of channel counts, convolutions with BatchNorm, and the four tapped maps."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

LEVEL_COUNT = 4  # fine, middle, coarse, and the final map that the pose head pools


class Backbone(nn.Module):
    """An image encoder that gives up four of its maps: fine, middle, coarse and final.

    The first three end the encoder's first, third and fifth block (DFNet supplement 1.1); the last is what an
    ImageNet classifier would pool.
    """

    name: str                       # also names the ImageNet checkpoint
    width: float                    # multiplier of all channel counts
    levels: list[tuple[int, int]]   # (channels, stride) of each of the four maps

    def stages(self) -> tuple[nn.Module, ...]:
        """The four parts of the encoder, one ending at each level."""
        raise NotImplementedError

    def forward(self, image: Tensor, count: int = LEVEL_COUNT) -> tuple[Tensor, ...]:
        """The `count` finest maps; nothing behind them is computed.

        image: [B, 3, H, W], ImageNet-normalised -> [B, C, ceil(H / stride), ceil(W / stride)] for each of `levels`
        (VGG's pooling rounds down instead).
        """
        maps = []
        for stage in self.stages()[:count]:
            image = stage(image)
            maps.append(image)
        return tuple(maps)


class SequentialBackbone(Backbone):
    """A backbone whose layers all lie in one `features`, tapped behind the layers of index `taps`."""

    features: nn.Sequential
    taps: tuple[int, int, int]

    def stages(self) -> tuple[nn.Module, ...]:
        edges = (0, *(tap + 1 for tap in self.taps), len(self.features))
        return tuple(self.features[start:end] for start, end in pairwise(edges))


def scaled(channels: int, width: float) -> int:
    """channels * width, rounded to a multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
              activation: Callable[[], nn.Module] | None = None) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation; an odd kernel keeps the size (divided by the stride)."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def initialise(module: nn.Module) -> None:
    """Kaiming-normal convolutions (fan out) with zero biases, from torch's global generator; BatchNorm is left."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def freeze_batch_norm(module: nn.Module) -> None:
    """Make every BatchNorm use its running statistics and leave them as they are (Direct-PoseNet section 4.1).

    `module.train()` undoes it: call this again behind it.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
