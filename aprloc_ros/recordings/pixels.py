"""What every decoder of images needs: a size that is allowed, and 8 bits a channel."""

import cv2
import numpy as np

from aprloc_ros.errors import AprlocError

# Of sensors. What they count is put into 16 bits as it is (10, 12 and 14 bits) or spread over all of them (16).
_BITS = (8, 10, 12, 14, 16)


def check_size(width: int, height: int, max_image_bytes: int) -> None:
    """Raises AprlocError for an image without pixels, and for one that is larger than max_image_bytes as RGB."""
    if width < 1 or height < 1:
        raise AprlocError(f'the image is {width}x{height}: it has no pixels; check the camera driver')
    if width * height * 3 > max_image_bytes:
        raise AprlocError(f'the image is {width}x{height}, {width * height * 3} bytes as RGB; at most '
                          f'{max_image_bytes} are allowed by the parameter max_image_bytes')


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint8 or uint16 of any shape -> uint8, the largest number that the sensor can count to becomes 255.

    Its bits are the fewest that hold the brightest value, so that 12 bits in a container of 16 do not make a picture of 16
    grey levels, and nobody has to say which they are. Raises AprlocError for pixels that are no such integers.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype != np.uint16:
        raise AprlocError(f'the image holds {values.dtype} numbers; 8 or 16 bits a channel are needed')
    brightest = int(values.max(initial=0))
    bits = next(bits for bits in _BITS if brightest < 2**bits)
    return cv2.convertScaleAbs(values, alpha=255 / (2**bits - 1))
