"""The lens as the images say it is: the intrinsics that fit triangulated points best, with the poses as they are.

A calibration sheet, a driver's default or a data set's round number is often a pixel off towards the corners; then what
different views say of a point does not meet in one place, and neither does a field that is rendered from them.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.lens import Lens

_ITERATIONS = 30
_FEWEST_IMAGES = 8
_WORTH_PX = 0.25   # a lens that moves pixels by less (root mean square) is left as declared: keypoints are no better
# Shares of the image's diagonal by which a lens may be from the declared one: about 5 and 17 % of a focal length.
_FAR, _IMPLAUSIBLE = 0.015, 0.05
_MANY_POINTS = 500


def to_colmap(camera: Camera) -> tuple[str, list[float]]:
    """COLMAP's name of the camera's model, and its parameters; there the first pixel's centre is at (0.5, 0.5)."""
    rational = any(camera.distortion[4:])
    model = 'OPENCV_FISHEYE' if camera.model == 'fisheye' else 'FULL_OPENCV' if rational else 'OPENCV'
    distortion = (*camera.distortion, *(0.0,) * 8)[:8 if rational else 4]
    return model, [camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5, *distortion]


def calibrate_lenses(pycolmap, reconstruction, declared: Mapping[int, Camera]) -> tuple[Lens, ...]:
    """Lenses of the cameras (by COLMAP's number) that are not as declared, by bundle adjustment with fixed poses.

    The reconstruction's points move with it. What is fitted has four coefficients of distortion; cameras with more, and
    those of few images, stay as they are.
    """
    config = pycolmap.BundleAdjustmentConfig()
    images = Counter(image.camera_id for image in reconstruction.images.values())
    free = [number for number, camera in declared.items()
            if images[number] >= _FEWEST_IMAGES and to_colmap(camera)[0] != 'FULL_OPENCV']
    for number in declared.keys() - free:
        config.set_constant_cam_intrinsics(number)
    for number, image in reconstruction.images.items():
        config.add_image(number)
        config.set_constant_rig_from_world_pose(image.frame_id)
    pycolmap.create_default_bundle_adjuster(_options(pycolmap), config, reconstruction).solve()
    found = [Lens(declared[number], _to_camera(declared[number], reconstruction.cameras[number].params)) for number in free]
    return tuple(lens for lens in found if moved_px(lens) > _WORTH_PX)


def _options(pycolmap):
    """A wrong match counts little, sums are in a fixed order. The principal point stays, as is COLMAP's habit: on a drive
    that turns little, one that is moved up and points that are moved down look the same.
    """
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_rig_from_world = options.refine_sensor_from_rig = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    options.ceres.solver_options.num_threads = 1
    return options


def _to_camera(declared: Camera, parameters) -> Camera:
    fx, fy, cx, cy, *distortion = map(float, parameters)
    model = 'fisheye' if declared.model == 'fisheye' else 'opencv'
    return replace(declared, fx=fx, fy=fy, cx=cx - 0.5, cy=cy - 0.5, model=model, distortion=tuple(distortion))


def check_lens(lens: Lens, verified: bool, before: int, after: int) -> str:
    """Why a lens is not believed; empty for one that is.

    verified: the poses agree with the images by pairs; before, after: points that could be triangulated with the declared
    and with the found lens. Raises AprlocError for a lens that cannot be, unless verified poses and more points say so.
    """
    if not is_far(lens):
        return ''
    doubts = [] if verified else ['the poses could not be verified']
    if after < _MANY_POINTS:
        doubts.append(f'only {after} points say so (at least {_MANY_POINTS} needed)')
    if after < before:
        doubts.append(f'fewer points fit it ({after}) than the declared one ({before})')
    if doubts and _moved(lens) > _IMPLAUSIBLE:
        raise AprlocError(f'the images and poses fit a lens {moved_px(lens):.0f} pixels from the declared one (f '
                          f'{lens.found.fx:.0f} {lens.found.fy:.0f}, declared {lens.declared.fx:.0f} {lens.declared.fy:.0f}), which '
                          f'cannot be believed: {", ".join(doubts)}; mend the intrinsics, or the poses')
    return ', '.join(doubts)


def is_far(lens: Lens) -> bool:
    """Whether it is further from the declared one than calibrations usually are."""
    return _moved(lens) > _FAR


def _moved(lens: Lens) -> float:
    """moved_px as a share of the diagonal."""
    return moved_px(lens) / math.hypot(lens.declared.width, lens.declared.height)


def moved_px(lens: Lens) -> float:
    """How far apart the two cameras see the same directions, root mean square over the image of the declared one."""
    seen, found = lens.declared, lens.found
    optics = cv2.fisheye if seen.model == 'fisheye' else cv2
    u, v = np.meshgrid(np.linspace(0, seen.width - 1, 17), np.linspace(0, seen.height - 1, 17))
    pixels = np.stack([u, v], -1).reshape(-1, 1, 2)
    directions = cv2.convertPointsToHomogeneous(optics.undistortPoints(pixels, seen.matrix, _coefficients(seen)))
    moved, _ = optics.projectPoints(directions, np.zeros(3), np.zeros(3), found.matrix, _coefficients(found))
    return float(np.sqrt(((moved - pixels) ** 2).sum(-1).mean()))


def _coefficients(camera: Camera) -> np.ndarray:
    return np.array(camera.distortion or (0.0,) * 4)
