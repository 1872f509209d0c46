"""Image messages of a bag as files: decoded once, written to a folder, the camera beside them."""

from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.parsing import checked_camera

# Channels of an encoding and cv2's conversion to BGR (None: it is BGR or grey already).
ENCODINGS = {
    'bgr8': (3, None), '8UC3': (3, None), 'mono8': (1, None), '8UC1': (1, None),
    'rgb8': (3, cv2.COLOR_RGB2BGR), 'rgba8': (4, cv2.COLOR_RGBA2BGR), 'bgra8': (4, cv2.COLOR_BGRA2BGR),
    # ROS names a Bayer pattern by its first row, OpenCV by the second row's second and third pixel.
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2BGR), 'bayer_bggr8': (1, cv2.COLOR_BayerRG2BGR),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2BGR), 'bayer_grbg8': (1, cv2.COLOR_BayerGB2BGR),
    'yuv422': (2, cv2.COLOR_YUV2BGR_UYVY), 'uyvy': (2, cv2.COLOR_YUV2BGR_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2BGR_YUY2), 'yuyv': (2, cv2.COLOR_YUV2BGR_YUY2),
}
MODELS = {'plumb_bob': 'opencv', 'rational_polynomial': 'opencv', 'equidistant': 'fisheye', 'fisheye': 'fisheye'}


def is_depth(message) -> bool:
    """Whether an Image or CompressedImage holds depth."""
    if hasattr(message, 'encoding'):
        return message.encoding in ('16UC1', '32FC1')
    return 'compressedDepth' in message.format or message.format.startswith('16UC1')


def decode_raw(message, where: str) -> np.ndarray:
    """sensor_msgs/Image -> [H, W] or [H, W, 3] uint8 BGR. AprlocError for unknown encodings and wrong sizes."""
    if message.encoding not in ENCODINGS:
        raise AprlocError(f'{where}: encoding {message.encoding!r} is not one of {", ".join(ENCODINGS)}')
    channels, conversion = ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0 or step < width * channels or len(message.data) < height * step:
        raise AprlocError(f'{where}: image of {width}x{height}, step {step}, with {len(message.data)} bytes: '
                          f'empty or truncated')
    rows = np.frombuffer(message.data, np.uint8, height * step).reshape(height, step)[:, :width * channels]
    image = np.ascontiguousarray(rows.reshape(height, width, channels) if channels > 1 else rows)
    return image if conversion is None else cv2.cvtColor(image, conversion)


def write_image(message, is_compressed: bool, stem: Path, where: str) -> Path:
    """Write the message's image once: a compressed one as it is, a raw one as PNG. Returns the file."""
    if is_compressed:
        content = bytes(message.data)
        suffix = {b'\xff\xd8': '.jpg', b'\x89P': '.png'}.get(content[:2])
        if suffix is None:
            raise AprlocError(f'{where}: {len(content)} bytes of format {message.format!r} are neither JPEG nor PNG')
    else:
        suffix = '.png'
        content = cv2.imencode('.png', decode_raw(message, where), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    file = stem.with_name(stem.name + suffix)
    if not file.is_file() or file.stat().st_size != len(content):
        stem.parent.mkdir(parents=True, exist_ok=True)
        partial = stem.with_name(stem.name + '.part')
        partial.write_bytes(content)
        partial.replace(file)
    return file


def camera_of(info, rectified: bool, where: str) -> Camera:
    """sensor_msgs/CameraInfo of ROS 1 (K, D, P) or 2 (k, d, p) -> Camera; rectified images take P."""
    k, d, p = (getattr(info, name, getattr(info, name.upper(), None)) for name in 'kdp')
    model = MODELS.get(info.distortion_model or 'plumb_bob')
    if model is None:
        raise AprlocError(f'{where}: distortion_model {info.distortion_model!r} is not one of {", ".join(MODELS)}')
    matrix = np.array(p, dtype=float).reshape(3, 4) if rectified else np.array(k, dtype=float).reshape(3, 3)
    fx, fy, cx, cy = (float(matrix[index]) for index in ((0, 0), (1, 1), (0, 2), (1, 2)))
    distortion = () if rectified else tuple(float(value) for value in d)
    if rectified or model == 'opencv' and not any(distortion):
        model, distortion = 'pinhole', ()
    if fx == 0:
        raise AprlocError(f'{where}: focal length 0: the camera is not calibrated; record a calibrated camera_info')
    return checked_camera(where, int(info.width), int(info.height), fx, fy, cx, cy, model, distortion)
