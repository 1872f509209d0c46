"""A small encoder for descriptors that are learned on one place: fine detail, and the context of half an image."""

from torch import nn

from aprloc_ros.networks.layers import Backbone, conv_norm, initialise, scaled
from aprloc_ros.networks.resnet import BasicBlock


class Compact(Backbone):
    """Levels at strides 2, 8, 32 (24, 64, 128 channels). It has no ImageNet checkpoint: it learns from scratch."""

    name = 'compact'

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.width = width
        fine, quarter, middle, half, coarse = (scaled(count, width) for count in (24, 48, 64, 96, 128))
        # An even kernel: the centre of a cell of 2x2 pixels is the centre of what it sees.
        self.fine = nn.Sequential(nn.Conv2d(3, fine, 4, 2, 1, bias=False), nn.BatchNorm2d(fine), nn.ReLU(inplace=True),
                                  BasicBlock(fine, fine, 1))
        self.middle = nn.Sequential(conv_norm(fine, quarter, 3, 2, activation=nn.ReLU), BasicBlock(quarter, middle, 2),
                                    BasicBlock(middle, middle, 1))
        self.coarse = nn.Sequential(BasicBlock(middle, half, 2), BasicBlock(half, coarse, 2))
        self.levels = [(fine, 2), (middle, 8), (coarse, 32), (coarse, 32)]
        initialise(self)

    def stages(self) -> tuple[nn.Module, ...]:
        return self.fine, self.middle, self.coarse, nn.Identity()
