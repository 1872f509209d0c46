"""sensor_msgs/Image and CompressedImage -> RGB pixels, without ROS: the one reader of build, replay and node.

A message may come from anyone: every size is checked against the data and a limit before anything is allocated.
"""

import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.decoding.encoded_images import decode, is_jpeg_or_png
from aprloc_ros.recordings.decoding.raw_images import decode_raw, demosaic

_DEPTH = ('16uc1', '32fc1')   # what ROS gives to depth images (REP 118)
_NAME_LENGTH = 40             # of what a stranger wrote, in messages


def decode_image(message, max_image_bytes: int) -> np.ndarray:
    """sensor_msgs/Image or CompressedImage (or any object with their fields) -> [H, W, 3] uint8 RGB.

    max_image_bytes bounds the decoded image. Raises AprlocError for a depth image, a size of zero, a size over the limit,
    data that do not fill the size, an unknown encoding, or a stream that does not decode.
    """
    if is_depth(message):
        raise AprlocError(f'the image is a depth image ({_kind(message)!r}); a colour image is needed, or a grey one as '
                          f'mono8 or mono16')
    if hasattr(message, 'encoding'):
        return decode_raw(message, max_image_bytes)
    return _decode_compressed(message, max_image_bytes)


def is_depth(message) -> bool:
    """Whether an Image or CompressedImage holds depth."""
    kind = _kind(message).lower()
    return kind.startswith(_DEPTH) or 'compresseddepth' in kind


def bayer_pattern(message) -> str:
    """The encoding of the mosaic that a CompressedImage may hold: compressed_image_transport leaves it; else empty."""
    pattern = message.format.partition(';')[0].strip().lower()
    return pattern if pattern.startswith('bayer_') else ''


def _kind(message) -> str:
    return (message.encoding if hasattr(message, 'encoding') else message.format)[:_NAME_LENGTH]


def _decode_compressed(message, max_image_bytes: int) -> np.ndarray:
    data = memoryview(message.data).tobytes()
    if not is_jpeg_or_png(data):
        raise AprlocError(f'the compressed image ({_kind(message)!r}, {len(data)} bytes) is neither JPEG nor PNG')
    image = decode(data, max_image_bytes)
    pattern = bayer_pattern(message)
    if pattern and (image == image[..., :1]).all():
        return demosaic(image[..., 0].copy(), pattern)
    return image
