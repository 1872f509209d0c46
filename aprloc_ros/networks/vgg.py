"""VGG-16 without BatchNorm (Simonyan and Zisserman, ICLR 2015), with torchvision's parameter names."""

from torch import nn

from aprloc_ros.networks.layers import SequentialBackbone, initialise, scaled

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(SequentialBackbone):
    """Levels behind the ReLU of conv1_2, conv3_3, conv5_3, strides 1, 4, 16 (64, 256, 512 channels).

    The final map is the fifth pooling's, 512 channels at stride 32. Pooling rounds down: sides of at least 32.
    """

    name = 'vgg16'
    taps = (3, 15, 29)

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.width = width
        layers, inputs = [], 3
        for block in _BLOCKS:
            for channels in block:
                outputs = scaled(channels, width)
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.levels = [(scaled(channels, width), stride)
                       for channels, stride in ((64, 1), (256, 4), (512, 16), (512, 32))]
        initialise(self)
