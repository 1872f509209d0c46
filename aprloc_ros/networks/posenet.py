"""PoseNet with a 3x4 pose (Direct-PoseNet section 3.2 and Table 6)."""

import torch
from torch import Tensor, nn

from aprloc_ros.networks.backbones import build_backbone
from aprloc_ros.networks.pose_head import PoseHead

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PoseNet(nn.Module):
    """Backbone, pooling, one fully connected layer to a 3x4 pose. The paper's backbone is MobileNetV2."""

    def __init__(self, backbone: str = 'mobilenet_v2', width: float = 1.0, pool: str = 'average'):
        super().__init__()
        self.backbone = build_backbone(backbone, width)
        self.head = PoseHead(self.backbone.levels[-1][0], pool)
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def normalised(self, image: Tensor) -> Tensor:
        """RGB in [0, 1], [B, 3, H, W], as ImageNet's classifiers take it."""
        return (image - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """image: [B, 3, H, W] RGB in [0, 1] -> raw pose [B, 3, 4]; `pose_head.to_T` makes it rigid."""
        return self.head(self.backbone(self.normalised(image))[-1])
