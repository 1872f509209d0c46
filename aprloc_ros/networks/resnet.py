"""ResNet-34 (He et al., CVPR 2016), with torchvision's parameter names."""

from torch import Tensor, nn

from aprloc_ros.networks.layers import Backbone, conv_norm, initialise, scaled


class BasicBlock(nn.Module):
    """Two conv3x3 with BatchNorm and a shortcut, projected where the shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = conv_norm(outputs, outputs, 3)
        self.relu = nn.ReLU(inplace=True)
        same_shape = stride == 1 and inputs == outputs
        self.downsample = None if same_shape else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet34(Backbone):
    """Levels at strides 2, 8, 32 (64, 128, 512 channels): the stem, layer2, layer4; the final map is layer4's too."""

    name = 'resnet34'

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.width = width
        channels = [scaled(count, width) for count in (64, 64, 128, 256, 512)]
        self.conv1, self.bn1, self.relu = conv_norm(3, channels[0], 7, 2, activation=nn.ReLU)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _layer(channels[0], channels[1], blocks=3, stride=1)
        self.layer2 = _layer(channels[1], channels[2], blocks=4, stride=2)
        self.layer3 = _layer(channels[2], channels[3], blocks=6, stride=2)
        self.layer4 = _layer(channels[3], channels[4], blocks=3, stride=2)
        self.levels = [(channels[0], 2), (channels[2], 8), (channels[4], 32), (channels[4], 32)]
        initialise(self)

    def stages(self) -> tuple[nn.Module, ...]:
        return (nn.Sequential(self.conv1, self.bn1, self.relu),
                nn.Sequential(self.maxpool, self.layer1, self.layer2),
                nn.Sequential(self.layer3, self.layer4),
                nn.Identity())


def _layer(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)
