"""An image as it would be in even white light, nearly: what a network sees that is to know a place in any light."""

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW = 8            # parts of the longer side: a window within which light counts as even
_DARKEST = 0.05        # of the mean luminance: what is darker is all alike
_LEAST_CONTRAST = 0.1  # deviation of the logarithm in a window below which it is not amplified
_COLOUR = 2.0          # factor on differences of colour
_BLACK = 1 / 255
_SHRINK = 4            # windows are smooth: their means are taken on an image so many times smaller


def even_light(image: Tensor) -> Tensor:
    """Local contrast and two differences of colour. [B, 3, h, w] RGB in [0, 1] -> [B, 3, h, w], each about unit deviation.

    The channels are divided by their means, which takes out exposure and the colour of the light. The first output is the
    logarithm of luminance less its mean within a window, over its deviation there, which takes out a light that
    varies slowly and, where there is contrast, the tone curve; the others are red less green, and both less blue, over
    the local luminance.
    """
    image = image.contiguous()
    red, green, blue = (image / image.mean((2, 3), keepdim=True).clamp_min(_BLACK)).unbind(1)
    luminance = (red + green + blue) / 3 + _DARKEST
    logarithm = torch.log(luminance)
    mean, deviation = _within_windows(logarithm)
    contrast = (logarithm - mean) / deviation
    colour = _COLOUR / luminance
    seen = torch.stack([contrast, (red - green) * colour, ((red + green) / 2 - blue) * colour], -1)
    return seen.permute(0, 3, 1, 2)   # channels last


def _within_windows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of [B, h, w] over about a square around each pixel, as much of it as lies in the image."""
    small = torch.stack([F.avg_pool2d(part, _SHRINK) for part in (values, values.square())], 1)
    half = max(1, round(max(small.shape[-2:]) / _WINDOW / 2))
    for kernel in ((2 * half + 1, 1), (1, 2 * half + 1)):
        padding = tuple(side // 2 for side in kernel)
        small = F.avg_pool2d(small, kernel, stride=1, padding=padding, count_include_pad=False)
    mean, square = small.unbind(1)
    deviation = ((square - mean.square()).clamp_min(0) + _LEAST_CONTRAST ** 2).sqrt()
    large = F.interpolate(torch.stack([mean, deviation], 1), values.shape[-2:], mode='bilinear', align_corners=False)
    return large[:, 0], large[:, 1]
