"""EfficientNet-B0 (Tan and Le, ICML 2019), with torchvision's parameter names, and its lite variant."""

from functools import partial

from torch import Tensor, nn

from aprloc_ros.networks.layers import SequentialBackbone, conv_norm, initialise, scaled

# The paper's Table 1: expansion, kernel, stride of the first block, channels, blocks.
_STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
           (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))
_LITE = partial(nn.ReLU6, inplace=True)


class SqueezeExcitation(nn.Module):
    """Weighs the channels by what the whole map holds."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.fc2(self.activation(self.fc1(mean))).sigmoid()


class MBConv(nn.Module):
    """Expand, filter depthwise, squeeze and excite, project; shortcut where the shapes agree. lite: does not excite."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, lite: bool = False):
        super().__init__()
        hidden, activation = inputs * expansion, _LITE if lite else nn.SiLU
        layers = [] if expansion == 1 else [conv_norm(inputs, hidden, activation=activation)]
        layers.append(conv_norm(hidden, hidden, kernel, stride, groups=hidden, activation=activation))
        layers += [] if lite else [SqueezeExcitation(hidden, max(1, inputs // 4))]
        layers.append(conv_norm(hidden, outputs))
        self.block = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.has_shortcut else self.block(x)


class EfficientNetB0(SequentialBackbone):
    """Levels at strides 2, 8, 32 (16, 40, 320 channels), final map of 1280 channels at stride 32.

    Without stochastic depth, which has no parameters and only regularises training.
    """

    name = 'efficientnet_b0'
    taps = (1, 3, 7)
    lite = False

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.width = width
        inputs, activation = scaled(32, width), _LITE if self.lite else nn.SiLU
        layers = [conv_norm(3, inputs, 3, 2, activation=activation)]
        for expansion, kernel, stride, channels, blocks in _STAGES:
            outputs = scaled(channels, width)
            first = MBConv(inputs, outputs, kernel, stride, expansion, self.lite)
            rest = [MBConv(outputs, outputs, kernel, 1, expansion, self.lite) for _ in range(blocks - 1)]
            layers.append(nn.Sequential(first, *rest))
            inputs = outputs
        layers.append(conv_norm(inputs, scaled(1280, width), activation=activation))
        self.features = nn.Sequential(*layers)
        self.levels = [(scaled(channels, width), stride)
                       for channels, stride in ((16, 2), (40, 8), (320, 32), (1280, 32))]
        initialise(self)


class EfficientNetLite0(EfficientNetB0):
    """The same without squeeze and excitation, its activations ReLU6: EfficientNet-Lite0."""

    name = 'efficientnet_lite0'
    lite = True
