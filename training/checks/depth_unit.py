"""The unit of a capture's depth images, by points that its poses and images put into them."""

import cv2
import numpy as np
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.training.datasets.capture import Frame, SparsePoints
from aprloc_ros.training.structure.depths import read_depth

_FRAMES = 40
_FEWEST = 50
_RIGHT = 0.1       # of the logarithm of the ratio: poses, lens and sensor are not better than so
_USUAL = 0.05
_SPREAD = 0.35     # median deviation of that logarithm: nothing fits
_UNITS_M = {'1 m': 1.0, '1 cm': 0.01, '1/256 m': 1 / 256, '1 mm': 1e-3, '1/4 mm': 2.5e-4, '1/5 mm': 2e-4, '0.1 mm': 1e-4}


def depth_factor(frames: tuple[Frame, ...], points: SparsePoints, report=print) -> float:
    """What depths as declared must be multiplied by to agree with the points; 1 where they do, or where nothing can be said.

    points: with observations by the frames. Raises AprlocError where no usual unit makes them agree.
    """
    declared, true, slant = _samples(frames, points)
    if len(true) < _FEWEST:
        report(f'depth: unit not checked, only {len(true)} points have a depth (at least {_FEWEST} needed)')
        return 1.0
    ratio = np.log(declared / true)
    centre, spread = _centre_and_spread(ratio)
    if spread > _USUAL / 5 and _centre_and_spread(ratio - np.log(slant))[1] < spread / 2:
        raise AprlocError('the depth images hold distances from the camera, as the points say; they must hold depths along '
                          'its axis (z): convert them')
    if _centre_and_spread(np.log(declared * true))[1] < spread / 2:
        raise AprlocError('the depth images grow where the points come nearer: they hold disparities; convert them to depths')
    if spread > _SPREAD:
        low, high = np.exp(np.quantile(ratio, (0.1, 0.9)))
        raise AprlocError(f'the depth images do not fit the points: their ratio goes from {low:.3g} to {high:.3g}; are they '
                          f'aligned with the colour images, and of the same time?')
    if abs(centre) < _RIGHT:
        report(f'depth: {np.exp(centre):.3f} times that of {len(true)} points, as declared')
        return 1.0
    unit_m = frames[0].depth_unit_m / np.exp(centre)
    for name, usual_m in _UNITS_M.items():
        if abs(np.log(unit_m / usual_m)) < _USUAL:
            report(f'WARNING: depth: a unit of the depth images is {name}, not {frames[0].depth_unit_m:.4g} m as declared: so '
                   f'{len(true)} points say')
            return usual_m / frames[0].depth_unit_m
    raise AprlocError(f'the depth images say {np.exp(centre):.3g} times the depths that images and poses do ({len(true)} points): '
                      f'a unit would be {unit_m:.4g} m, which is none of the usual ones ({", ".join(_UNITS_M)}); declare it, or '
                      f'bring poses and depths to metres')


def _centre_and_spread(values: np.ndarray) -> tuple[float, float]:
    centre = float(np.median(values))
    return centre, float(np.median(np.abs(values - centre)))


def _samples(frames: tuple[Frame, ...], points: SparsePoints) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth by the image, depth by the pose (both m) and length of the ray at depth 1, of points in a few depth images."""
    seen = [index for index in points.observations[:, 0].unique().tolist() if frames[index].depth_path]
    chosen = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, _FRAMES).astype(int))] if seen else []
    parts = [_of_frame(frames[i], points.xyz[points.observations[points.observations[:, 0] == i, 1]]) for i in chosen]
    return tuple(np.concatenate(column) for column in zip(*parts)) if parts else (np.zeros(0),) * 3


def _of_frame(frame: Frame, xyz: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    T_cam_map = invert(frame.T_map_cam)
    cam = (xyz @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]).numpy()
    cam = cam[cam[:, 2] > 0]
    image = read_depth(frame)
    u, v = _pixels(frame, cam).round().astype(int).T
    inside = (u >= 0) & (u < image.shape[1]) & (v >= 0) & (v < image.shape[0])
    cam, value = cam[inside], image[v[inside], u[inside]].astype(float)
    known = np.isfinite(value) & (value > 0) & (value < 65535)
    cam = cam[known]
    return value[known] * frame.depth_unit_m, cam[:, 2], np.linalg.norm(cam, axis=1) / cam[:, 2]


def _pixels(frame: Frame, cam: np.ndarray) -> np.ndarray:
    """[N, 2] of points [N, 3] in the camera, through its lens."""
    camera, still = frame.camera, np.zeros(3)
    if not len(cam):
        return np.zeros((0, 2))
    optics = cv2.fisheye if camera.model == 'fisheye' else cv2
    distortion = np.array(camera.distortion or (0.0,) * 4)
    return optics.projectPoints(cam[:, None], still, still, camera.matrix, distortion)[0][:, 0]
