"""What every decoder of images needs: a size that is allowed, and 8 bits a channel."""

import numpy as np

from aprloc_ros.bit_depth import to_8_bits, used_bits
from aprloc_ros.errors import AprlocError


def check_size(width: int, height: int, max_image_bytes: int) -> None:
    """Raises AprlocError for an image without pixels, and for one that is larger than max_image_bytes as RGB."""
    if width < 1 or height < 1:
        raise AprlocError(f'the image is {width}x{height}: it has no pixels; check the camera driver')
    if width * height * 3 > max_image_bytes:
        raise AprlocError(f'the image is {width}x{height}, {width * height * 3} bytes as RGB; at most '
                          f'{max_image_bytes} are allowed by the parameter max_image_bytes')


def as_8_bits(samples: np.ndarray) -> np.ndarray:
    """uint8 or uint16 of one image -> uint8, its sensor's largest value to 255, its bits told by the brightest pixel."""
    if samples.dtype == np.uint8:
        return samples
    return to_8_bits(samples, used_bits(int(samples.max(initial=0))))
