"""Images as a worse camera, or a passer-by, would have made of them: what learned descriptors should bear better."""

from collections.abc import Callable

import cv2
import numpy as np
import torch

from aprloc_ros.training.images.augmentation import degrade

# An image [H, W, 3] uint8 and a generator -> the damaged image.
Damage = Callable[[np.ndarray, torch.Generator], np.ndarray]


def damages(blur_px: float) -> dict[str, Damage]:
    """By name. blur_px: greatest standard deviation of the training's blur, at a height of 240 pixels."""
    return {'as it is': lambda image, generator: image,
            'training blur': _blurred(blur_px), 'twice the training blur': _blurred(2 * blur_px),
            'half the exposure': _exposed(0.5), 'double the exposure': _exposed(2.0),
            'a quarter covered': _covered(0.25), 'half covered': _covered(0.5), 'noise of 10 %': _noisy}


def _blurred(blur_px: float) -> Damage:
    def apply(image, generator):
        return cv2.GaussianBlur(image, (0, 0), blur_px * min(image.shape[:2]) / 240)
    return apply


def _exposed(factor: float) -> Damage:
    def apply(image, generator):
        linear = (image / 255.0) ** 2.2 * factor
        return np.round(255 * np.clip(linear, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    return apply


def _covered(share: float) -> Damage:
    def apply(image, generator):
        height, width = image.shape[:2]
        h, w = round(height * share ** 0.5), round(width * share ** 0.5)
        y, x = (int(torch.randint(limit + 1, (1,), generator=generator)) for limit in (height - h, width - w))
        image = image.copy()
        image[y:y + h, x:x + w] = torch.randint(256, (3,), generator=generator).numpy()
        return image
    return apply


def _noisy(image: np.ndarray, generator: torch.Generator) -> np.ndarray:
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    spoiled = degrade(pixels, 0.01, 0.0, generator) + 0.1 * torch.randn(pixels.shape, generator=generator)
    return (255 * spoiled[0].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
