"""A calibrated camera: projection with distortion, resizing, and warping one camera's image to another's.

Pixel coordinates follow OpenCV and ROS: the centre of the top-left pixel is (0, 0).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError

# Number of distortion coefficients each model may have, in OpenCV's order (k1 k2 p1 p2 k3 k4 k5 k6).
_COEFFICIENTS = {'pinhole': (0,), 'opencv': (4, 5, 8), 'fisheye': (4,)}
MAX_SIDE = 16384
_SAME_VIEW = 1e-3   # focal lengths
_SQUARE = 0.01      # of an aspect, by which pixels may fail to be square


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels. model: 'pinhole', 'opencv' (plumb_bob and rational) or 'fisheye' (equidistant)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = 'pinhole'
    distortion: tuple[float, ...] = ()

    def __post_init__(self):
        if self.model not in _COEFFICIENTS:
            raise AprlocError(f'camera model {self.model!r} is not one of {", ".join(_COEFFICIENTS)}')
        if len(self.distortion) not in _COEFFICIENTS[self.model]:
            raise AprlocError(f'camera model {self.model} takes {_COEFFICIENTS[self.model]} distortion '
                              f'coefficients, not {len(self.distortion)}')
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise AprlocError(f'camera size {self.width}x{self.height} is outside 1 to {MAX_SIDE} pixels')
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not np.isfinite(numbers).all() or self.fx <= 0 or self.fy <= 0:
            raise AprlocError(f'camera intrinsics must be finite with positive focal lengths, not '
                              f'fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy}, distortion {list(self.distortion)}')

    @property
    def matrix(self) -> np.ndarray:
        """Intrinsic matrix, [3, 3] float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def is_distorted(self) -> bool:
        return self.model == 'fisheye' or any(self.distortion)

    def resized(self, width: int, height: int) -> 'Camera':
        """The camera of the same image resampled to width x height."""
        sx, sy = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy,
                       cx=(self.cx + 0.5) * sx - 0.5, cy=(self.cy + 0.5) * sy - 0.5)

    def with_short_side(self, pixels: int) -> 'Camera':
        """Resized so that the shorter side has that many pixels."""
        scale = pixels / min(self.width, self.height)
        return self.resized(round(self.width * scale), round(self.height * scale))

    def without_distortion(self) -> 'Camera':
        """The pinhole camera of the same size and intrinsic matrix."""
        return replace(self, model='pinhole', distortion=())

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pinhole projection. points [..., 3] in the camera -> pixels [..., 2], in view [...] (bool)."""
        assert not self.is_distorted, 'project() is for rectified cameras'
        z = points[..., 2]
        safe = torch.where(z > 1e-9, z, torch.ones_like(z))
        u = self.fx * points[..., 0] / safe + self.cx
        v = self.fy * points[..., 1] / safe + self.cy
        inside = (u > -0.5) & (u < self.width - 0.5) & (v > -0.5) & (v < self.height - 0.5)
        return torch.stack([u, v], -1), inside & (z > 1e-9)

    def pixels_of(self, points: np.ndarray) -> np.ndarray:
        """Where points [N, 3] in front of the camera are seen, distortion included: [N, 2], in view or not."""
        if not self.is_distorted:
            return points[:, :2] / points[:, 2:] * [self.fx, self.fy] + [self.cx, self.cy]
        project = cv2.fisheye.projectPoints if self.model == 'fisheye' else cv2.projectPoints
        still = np.zeros(3)
        return project(points[:, None], still, still, self.matrix, np.array(self.distortion))[0][:, 0]

    def rays_of(self, pixels: np.ndarray) -> np.ndarray:
        """The inverse: where what is seen at pixels [N, 2] crosses the plane of depth 1, [N, 2]."""
        if not len(pixels):   # which OpenCV does not take
            return np.zeros((0, 2))
        undistort = cv2.fisheye.undistortPoints if self.model == 'fisheye' else cv2.undistortPoints
        return undistort(pixels[:, None], self.matrix, np.array(self.distortion or (0.0,) * 4))[:, 0]

    def directions(self) -> Tensor:
        """Directions through the pixel centres of a rectified camera, z = 1: [H, W, 3] float32."""
        assert not self.is_distorted, 'directions() is for rectified cameras'
        v, u = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing='ij')
        return torch.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy, torch.ones_like(u)], -1).float()


def is_same_view(a: Camera, b: Camera) -> bool:
    """Whether focal lengths and centres agree, at whatever size, but for a rounding."""
    b = b.resized(a.width, a.height)
    apart = np.array([a.fx - b.fx, a.fy - b.fy, a.cx - b.cx, a.cy - b.cy])
    return bool((np.abs(apart) <= _SAME_VIEW * b.fx).all())


def may_have_taken(camera: Camera, width: int, height: int) -> bool:
    """Whether an image of that size may be the whole of what the camera sees, resampled.

    The sides of a camera that was resampled are whole pixels, or whole cells of some network, of what they were. Where pixels
    were square, focal lengths still tell; elsewhere the sides do, to half a pixel.
    """
    sides = width * camera.height / (height * camera.width)
    square = sides * camera.fx / camera.fy
    return abs(sides - 1) <= 1 / min(camera.width, camera.height) or abs(square - 1) <= _SQUARE


def warp_image(image: np.ndarray, source: Camera, target: Camera) -> np.ndarray:
    """Resample source's image to what target would have seen from the same place (undistorts, resizes, re-crops).

    image: [H, W, 3] uint8 of source's size; target: a pinhole camera -> [h, w, 3] uint8, black where unseen.
    """
    if image.shape[:2] != (source.height, source.width):
        raise AprlocError(f'the image is {image.shape[1]}x{image.shape[0]} but its camera says '
                          f'{source.width}x{source.height}; check camera_info')
    if source == target:
        return image
    # Average over the pixels that fall together before sampling, along each axis: no aliasing.
    size = (max(1, min(source.width, round(source.width * target.fx / source.fx))),
            max(1, min(source.height, round(source.height * target.fy / source.fy))))
    if size != (source.width, source.height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        source = source.resized(*size)
        if source == target:
            return image
    size = target.width, target.height
    distortion = np.array(source.distortion or (0.0,) * 4)
    undistort = cv2.fisheye.initUndistortRectifyMap if source.model == 'fisheye' else cv2.initUndistortRectifyMap
    maps = undistort(source.matrix, distortion, np.eye(3), target.matrix, size, cv2.CV_32FC1)
    return cv2.remap(image, *maps, cv2.INTER_LINEAR)
