"""The luminance of an image as the camera gave it, looked at in small windows only."""

from dataclasses import dataclass

import cv2
import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.patches import BLUR_PX


@dataclass(frozen=True, eq=False)
class Luminance:
    """An image of a camera, lens and all: windows are rectified where they are needed, the rest never is."""

    image: np.ndarray   # [H, W, 3] uint8 RGB, or [H, W] luminance, of the camera's size
    camera: Camera

    def halved(self, times: int) -> 'Luminance':
        """Luminance, the sides halved so many times, slightly blurred."""
        image, camera = self.image, self.camera
        if image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if times:
            size = max(1, camera.width >> times), max(1, camera.height >> times)
            image, camera = cv2.resize(image, size, interpolation=cv2.INTER_AREA), camera.resized(*size)
        return Luminance(cv2.GaussianBlur(image, (0, 0), BLUR_PX), camera)

    def sample(self, pixels: np.ndarray) -> np.ndarray:
        """Bilinear values at pixels [..., 2] -> [...] float32."""
        flat = pixels.reshape(len(pixels), -1, 2).astype(np.float32)
        return cv2.remap(self.image, flat, None, cv2.INTER_LINEAR).reshape(pixels.shape[:-1]).astype(np.float32)
