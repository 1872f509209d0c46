"""sensor_msgs/CameraInfo to a camera, whoever made the message. Without ROS."""

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError

# CameraInfo's name -> the camera's model and how many of D it uses.
_DISTORTION_MODELS = {'plumb_bob': ('opencv', 5), 'rational_polynomial': ('opencv', 8), 'equidistant': ('fisheye', 4)}


def camera_from_info(info, rectified: bool = False) -> Camera:
    """The camera of the image that comes with this CameraInfo, its binning and region of interest applied.

    rectified: the image is image_rect: P counts and there is no distortion. Raises AprlocError for an uncalibrated
    camera, an unknown distortion model, a wrong number of coefficients or a region outside the sensor.
    """
    if info.width < 1 or info.height < 1:
        raise AprlocError(f'camera_info is of {info.width}x{info.height} pixels; check the camera driver')
    matrix, stride = (_field(info, 'p'), 4) if rectified else (_field(info, 'k'), 3)
    fx, fy, cx, cy = (float(matrix[i]) for i in (0, stride + 1, 2, stride + 2))
    if fx == 0 or fy == 0:
        raise AprlocError(f'camera_info has no calibration: its {"P" if rectified else "K"} is zero; calibrate the '
                          f'camera, or set require_camera_info to false to use that of the map')
    if rectified and info.roi.do_rectify:
        raise AprlocError('camera_info asks to rectify its region of interest (do_rectify), so the region of the '
                          'rectified image is unknown; publish the raw image or the whole image')
    model, distortion = ('pinhole', ()) if rectified else _distortion(info)
    left, top, width, height = _region(info)
    across, down = max(info.binning_x, 1), max(info.binning_y, 1)
    # A binned pixel covers across x down pixels of the sensor; its centre lies half of it from its corner.
    return Camera(width // across, height // down, fx / across, fy / down,
                  (cx - left + 0.5) / across - 0.5, (cy - top + 0.5) / down - 0.5, model, distortion)


def _field(info, name: str):
    """K, D, R and P of ROS 1 are k, d, r and p of ROS 2."""
    return getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())


def _region(info) -> tuple[int, int, int, int]:
    """Left, top, width, height of the image on the sensor; all zeros in the message mean the whole sensor."""
    roi = info.roi
    left, top, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
    if (left, top, width, height) == (0, 0, 0, 0):
        return 0, 0, info.width, info.height
    if width < 1 or height < 1 or left + width > info.width or top + height > info.height:
        raise AprlocError(f'camera_info has a region of interest of {width}x{height} at ({left}, {top}), outside its '
                          f'{info.width}x{info.height} pixels')
    return left, top, width, height


def _distortion(info) -> tuple[str, tuple[float, ...]]:
    coefficients = tuple(float(value) for value in _field(info, 'd'))
    if info.distortion_model == '' and not any(coefficients):
        return 'pinhole', ()
    if info.distortion_model not in _DISTORTION_MODELS:
        raise AprlocError(f'camera_info has the distortion model {info.distortion_model[:40]!r}; it must be one of '
                          f'{", ".join(_DISTORTION_MODELS)}, or the image rectified and the parameter rectified true')
    model, count = _DISTORTION_MODELS[info.distortion_model]
    if model == 'opencv' and not any(coefficients):
        return 'pinhole', ()
    # Drivers pad D with zeros (OpenCV's thin prism and tilt) or leave out a k3 of zero.
    if any(coefficients[count:]) or len(coefficients) < min(count, 4) or 5 < len(coefficients) < count:
        raise AprlocError(f'camera_info has {len(coefficients)} distortion coefficients; '
                          f'{info.distortion_model} takes {count}')
    return model, coefficients[:count]
