"""What befalls the images of a robot after its place was mapped: another light, blur and noise, something before the camera."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.training.images.augmentation import cover
from aprloc_ros.training.images.relighting import relight

_BLUR = 3 / 240     # greatest standard deviation, of the shorter side: twice what descriptors learn under
_NOISE = 0.1        # greatest standard deviation
_COVERED = 0.6      # greatest share of the image


def _relit(image: Tensor, generator: torch.Generator) -> Tensor:
    return relight(image[None], 1.0, generator)[0]


def _blurred(image: Tensor, generator: torch.Generator) -> Tensor:
    """Along both axes as it comes, out of focus or moved, with noise."""
    across, down, amount = torch.rand(3, generator=generator).tolist()
    most = _BLUR * min(image.shape[1:])
    soft = cv2.GaussianBlur(image.permute(1, 2, 0).contiguous().numpy(), (0, 0), max(most * across, 0.1), sigmaY=max(most * down, 0.1))
    return torch.from_numpy(soft).permute(2, 0, 1) + _NOISE * amount * torch.randn(image.shape, generator=generator)


def _covered(image: Tensor, generator: torch.Generator) -> Tensor:
    while True:
        hidden, seen = cover(image[None], _COVERED, generator)
        if not seen.all():
            return hidden[0]


_KINDS: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (_relit, _blurred, _covered)


def spoil(image: np.ndarray, number: int) -> np.ndarray:
    """One misfortune, of a kind that takes turns with the number, by chance but the same for a number. [H, W, 3] uint8 RGB -> the same."""
    generator = torch.Generator().manual_seed(number)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
    spoilt = _KINDS[number % len(_KINDS)](pixels, generator)
    return (255 * spoilt.clamp(0, 1)).round().byte().permute(1, 2, 0).contiguous().numpy()
