"""MobileNetV2 (Sandler et al., CVPR 2018), with torchvision's parameter names."""

from functools import partial

from torch import Tensor, nn

from aprloc_ros.networks.layers import SequentialBackbone, conv_norm, initialise, scaled

# The paper's Table 2: expansion, channels, blocks, stride of the first block.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

_relu6 = partial(nn.ReLU6, inplace=True)


class InvertedResidual(nn.Module):
    """Expand by conv1x1, filter by depthwise conv3x3, project linearly; shortcut where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [conv_norm(inputs, hidden, activation=_relu6)]
        layers.append(conv_norm(hidden, hidden, 3, stride, groups=hidden, activation=_relu6))
        self.conv = nn.Sequential(*layers, *conv_norm(hidden, outputs))
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(SequentialBackbone):
    """Levels at strides 2, 8, 32 (16, 32, 320 channels), final map of 1280 channels at stride 32."""

    name = 'mobilenet_v2'
    taps = (1, 6, 17)

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.width = width
        inputs = scaled(32, width)
        layers = [conv_norm(3, inputs, 3, 2, activation=_relu6)]
        for expansion, channels, blocks, stride in _STAGES:
            outputs = scaled(channels, width)
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expansion))
                inputs = outputs
        layers.append(conv_norm(inputs, scaled(1280, width), activation=_relu6))
        self.features = nn.Sequential(*layers)
        self.levels = [(scaled(channels, width), stride)
                       for channels, stride in ((16, 2), (32, 8), (320, 32), (1280, 32))]
        initialise(self)
