"""Patches as a camera sees them, and how much they look like it."""

import copy
from dataclasses import dataclass

import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.patches import SIDE

_NEAREST_M = 1e-3
_TINY = 1e-3         # of a squared contrast
_LEAST_GAIN = 0.1    # below, or negative: another thing


@dataclass(frozen=True, eq=False)
class PatchView:
    """N patches from a pose, as affine as they are small."""

    pixels: np.ndarray     # [N, 2] of their centres in the image
    shape: np.ndarray      # [N, 2, 2] pixels of the image (rows) by pixels of the patch
    flat: np.ndarray       # [N, 2, 2] the shape for a rectified camera of focal length 1
    motion: np.ndarray     # [N, 2, 6] of a centre in such a camera by xi of T_map_cam @ exp(xi)
    inside: np.ndarray     # [N] bool: seen whole, and from the front

    @classmethod
    def of(cls, centres: np.ndarray, steps: np.ndarray, T_map_cam: np.ndarray, camera: Camera) -> 'PatchView':
        """centres [N, 3], steps [N, 2, 3], float64 of Patches; a camera with or without distortion."""
        R = T_map_cam[:3, :3]
        points, right, down = (centres - T_map_cam[:3, 3]) @ R, steps[:, 0] @ R, steps[:, 1] @ R
        ends = points + SIDE / 2 * np.stack([0 * right, right, -right, down, -down])
        ahead = (ends[..., 2] > _NEAREST_M).all(0)
        ends[..., 2] = np.maximum(ends[..., 2], _NEAREST_M)
        pixels = camera.pixels_of(ends.reshape(-1, 3)).reshape(5, -1, 2)
        shape = np.stack([pixels[1] - pixels[2], pixels[3] - pixels[4]], -1) / SIDE
        reach = SIDE / 2 * np.abs(shape).sum(2) + 1
        whole = ((pixels[0] >= reach) & (pixels[0] <= [camera.width - 1, camera.height - 1] - reach)).all(1)
        i, x, y = 1 / ends[0][:, 2], ends[0][:, 0] / ends[0][:, 2], ends[0][:, 1] / ends[0][:, 2]
        flat = np.stack([i[:, None] * (e[:, :2] - np.stack([x, y], 1) * e[:, 2:]) for e in (right, down)], -1)
        facing = np.linalg.det(flat) > 0
        flat = np.where(facing[:, None, None], flat, np.eye(2))
        o = np.zeros_like(x)
        motion = np.stack([np.stack([-i, o, x * i, x * y, -1 - x * x, y], -1),
                           np.stack([o, -i, y * i, 1 + y * y, -x * y, -x], -1)], 1)
        return cls(pixels[0], shape, flat, motion, ahead & whole & facing)

    @property
    def jacobian(self) -> np.ndarray:
        """[N, 2, 6] motion of the image over the patch, in the patch's pixels: the lens moves both alike, and drops out."""
        return np.linalg.solve(self.flat, self.motion)

    @property
    def scale(self) -> np.ndarray:
        """[N] pixels of the image to a patch's."""
        return np.sqrt(np.abs(np.linalg.det(self.shape)))


@dataclass(frozen=True, eq=False)
class Fit:
    """An image over N patches, explained by them with a gain and a bias each."""

    gain: np.ndarray       # [N]
    left: np.ndarray       # [N, SIDE^2] of the image, in units of the patch's luminance
    squared: np.ndarray    # [N] length of what is left, in units of the patch's contrast
    usable: np.ndarray     # [N] bool: the gain is one of light

    @property
    def likeness(self) -> np.ndarray:
        """[N] correlation of patches and image."""
        return self.usable / np.sqrt(1 + self.squared)


class Templates:
    """What of N patches never changes: values without their mean, and slopes that neither gain nor bias can imitate."""

    def __init__(self, luminance: np.ndarray):
        """luminance: [N, SIDE, SIDE]"""
        images = luminance.astype(np.float32)
        values = images.reshape(len(images), -1)
        down, right = np.gradient(images, axis=(1, 2))
        slopes = np.stack([right, down], 1).reshape(len(images), 2, -1)
        slopes -= slopes.mean(2, keepdims=True)
        self.values = values - values.mean(1, keepdims=True)                                      # [N, SIDE^2]
        self.squared = np.maximum((self.values ** 2).sum(1), _TINY)                               # [N]
        along = (slopes @ self.values[..., None])[..., 0] / self.squared[:, None]
        self.slopes = slopes - along[..., None] * self.values[:, None]                            # [N, 2, SIDE^2]
        span = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
        self.offsets = np.stack(np.meshgrid(span, span), -1).reshape(-1, 2)                       # [SIDE^2, 2]

    def of(self, rows: np.ndarray) -> 'Templates':
        """Some of them."""
        found = copy.copy(self)
        found.values, found.squared, found.slopes = self.values[rows], self.squared[rows], self.slopes[rows]
        return found

    def where(self, view: PatchView) -> np.ndarray:
        """Pixels of the image that a view's patches cover, [N, SIDE^2, 2]."""
        return view.pixels[:, None] + self.offsets @ view.shape.transpose(0, 2, 1)

    def fit(self, image: np.ndarray) -> Fit:
        """image: [N, SIDE^2] float32, what is seen there."""
        image = image - image.mean(1, keepdims=True)
        gain = (image * self.values).sum(1) / self.squared
        usable = gain > _LEAST_GAIN
        left = image / np.where(usable, gain, 1.0)[:, None] - self.values
        return Fit(gain, left, (left ** 2).sum(1) / self.squared, usable)
