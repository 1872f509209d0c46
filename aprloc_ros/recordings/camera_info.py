"""sensor_msgs/CameraInfo to a camera, whoever made the message: the one reader of build, replay, node and command line."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import yaml

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.intrinsics import check_intrinsics

# CameraInfo's name -> the camera's model and how many of D it uses. `fisheye` is what some drivers call equidistant.
_DISTORTION_MODELS = {'plumb_bob': ('opencv', 5), 'rational_polynomial': ('opencv', 8), 'equidistant': ('fisheye', 4),
                      'fisheye': ('fisheye', 4)}
_OR_RECTIFY = 'or rectify the images (image_proc) and use those'


def names_rectified(topic: str) -> bool:
    """Whether a topic's images are undistorted already, by the name that image_proc gives them (image_rect*)."""
    return topic.removesuffix('/compressed').rpartition('/')[2].startswith('image_rect')


def is_calibrated(info, rectified: bool = False) -> bool:
    """Whether it has focal lengths: drivers publish zeros for a camera that nobody has calibrated."""
    name, fy = ('P', 5) if rectified else ('K', 4)
    return bool(_field(info, name)[0] and _field(info, name)[fy])


def camera_from_info(info, rectified: bool = False) -> Camera:
    """The camera of the image that comes with this CameraInfo, its binning and region of interest applied.

    rectified: the image is image_rect: P counts and there is no distortion. Raises AprlocError for an uncalibrated
    camera, an unknown distortion model, a wrong number of coefficients or a region outside the sensor.
    """
    if info.width < 1 or info.height < 1:
        raise AprlocError(f'camera_info is of {info.width}x{info.height} pixels; check the camera driver')
    fx, fy, cx, cy = _intrinsics(info, *('P', 4) if rectified else ('K', 3))
    if rectified and info.roi.do_rectify:
        raise AprlocError('camera_info asks to rectify its region of interest (do_rectify), so the region of the '
                          'rectified image is unknown; publish the raw image or the whole image')
    model, distortion = ('pinhole', ()) if rectified else _distortion(info)
    sensor = Camera(info.width, info.height, fx, fy, cx, cy, model, distortion)
    check_intrinsics(sensor, 'camera_info')
    left, top, width, height = _region(info)
    across, down = max(info.binning_x, 1), max(info.binning_y, 1)
    # A binned pixel covers across x down pixels of the sensor; its centre lies half of it from its corner.
    return replace(sensor, width=width // across, height=height // down, fx=fx / across, fy=fy / down,
                   cx=(cx - left + 0.5) / across - 0.5, cy=(cy - top + 0.5) / down - 0.5)


def pair_numbers(info) -> tuple[list[float], tuple[float, float]]:
    """R in rows, which turns the camera's axes into those of the rectified image, and where in those of the first camera of a
    stereo pair this one sits, x and y in metres: P's last column is -f times that. Identity and zero where nobody filled them in.
    """
    R, P = ([float(value) for value in _field(info, name)] for name in 'RP')
    sits = tuple(-P[index] / P[focal] if len(P) == 12 and P[focal] else 0.0 for index, focal in ((3, 0), (7, 5)))
    return (R if len(R) == 9 and any(R) else [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]), sits


def read_camera_yaml(path: Path) -> Camera:
    """The camera of a file that ROS's camera_calibration writes (as old ones left it out, its model is plumb_bob).

    AprlocError names the file.
    """
    try:
        values = yaml.safe_load(Path(path).read_bytes())
        k, d = (tuple(map(float, values[name]['data'])) for name in ('camera_matrix', 'distortion_coefficients'))
        width, height = (int(values[name]) for name in ('image_width', 'image_height'))
        kind = values.get('distortion_model', 'plumb_bob')
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}'
        raise AprlocError(f'{path}: needs image_width, image_height, distortion_model, camera_matrix.data (9 numbers) and '
                          f'distortion_coefficients.data ({reason})') from None
    whole = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    try:
        return camera_from_info(SimpleNamespace(width=width, height=height, distortion_model=str(kind), k=k, d=d, roi=whole,
                                                binning_x=0, binning_y=0))
    except AprlocError as error:
        raise AprlocError(f'{path}: {error}') from None


def _field(info, name: str):
    """K, D, R and P of ROS 1 are k, d, r and p of ROS 2."""
    return getattr(info, name) if hasattr(info, name) else getattr(info, name.lower())


def _intrinsics(info, name: str, stride: int) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of K or P, whose rows have stride numbers."""
    matrix = [float(value) for value in _field(info, name)]
    if len(matrix) != 3 * stride:
        raise AprlocError(f'camera_info has {len(matrix)} numbers in its {name}; it takes {3 * stride}')
    fx, skew, cx, _, fy, cy = (matrix[row * stride + column] for row in (0, 1) for column in (0, 1, 2))
    if fx == 0 or fy == 0:
        raise AprlocError(f'camera_info has no calibration: its {name} is zero; the camera must be calibrated (a node can '
                          f'take the camera of its map: require_camera_info false)')
    below = matrix[stride], *matrix[2 * stride:2 * stride + 2]
    if skew or any(below):
        raise AprlocError(f'camera_info has the {name} {matrix}; it must be [fx 0 cx; 0 fy cy; 0 0 1] in rows')
    return fx, fy, cx, cy


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
    coefficients = tuple(float(value) for value in _field(info, 'D'))
    name, known = info.distortion_model, ', '.join(_DISTORTION_MODELS)
    if name == '' and not any(coefficients):
        return 'pinhole', ()
    if name == '':
        raise AprlocError(f'camera_info has {len(coefficients)} distortion coefficients and no distortion model; its '
                          f'driver must name one of {known}, {_OR_RECTIFY}')
    if name not in _DISTORTION_MODELS:
        raise AprlocError(f'camera_info has the distortion model {name[:40]!r}; it must be one of {known}, {_OR_RECTIFY}')
    model, count = _DISTORTION_MODELS[name]
    if model == 'opencv' and not any(coefficients):
        return 'pinhole', ()
    # Drivers pad D with zeros (OpenCV's thin prism and tilt) or leave out a k3 of zero.
    if any(coefficients[count:]) or len(coefficients) < min(count, 4) or 5 < len(coefficients) < count:
        raise AprlocError(f'camera_info has {len(coefficients)} distortion coefficients; {name} takes {count}: calibrate '
                          f'without more, {_OR_RECTIFY}')
    return model, coefficients[:count]
