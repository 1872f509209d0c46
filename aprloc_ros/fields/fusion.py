"""The fusion network: rendered colours and features -> the feature map that is compared (NeFeS section 3.2, Eq. 3)."""

import torch
from torch import Tensor, nn

_FIRST_SCALE = 0.1   # of what is added, before anything is learnt
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Fusion(nn.Module):
    """Three 3x3 convolutions of `hidden` with ReLU, a 5x5 one back to `channels`, batch normalisation: added to the features.

    In the paper the convolutions alone make the fused features. Here they begin as a small change, so that a short
    training gains by them at once: made from nothing, features were not there after hundreds of steps.
    """

    def __init__(self, channels: int, hidden: int = 64):
        super().__init__()
        self.register_buffer('mean', torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)

        def convolution(inputs, outputs, kernel):
            # Repeated borders: trained on small crops, it must not learn what a border of zeros looks like.
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode='replicate')
        self.layers = nn.Sequential(
            convolution(3 + channels, hidden, 3), nn.ReLU(), convolution(hidden, hidden, 3), nn.ReLU(),
            convolution(hidden, hidden, 3), nn.ReLU(), convolution(hidden, channels, 5), nn.BatchNorm2d(channels))
        nn.init.constant_(self.layers[-1].weight, _FIRST_SCALE)

    def forward(self, rgb: Tensor, features: Tensor) -> Tensor:
        """Colours [B, 3, H, W] in [0, 1] and features [B, C, H, W] -> [B, C, H, W]."""
        return features + self.layers(torch.cat([(rgb - self.mean) / self.std, features], 1))
