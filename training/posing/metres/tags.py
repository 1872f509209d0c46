"""Metres from AprilTags or ArUco markers of a known side."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import nearest_rotation, skew, so3_exp
from aprloc_ros.placement.robust_fit import robust_fit
from aprloc_ros.placement.upright import up_of_cameras
from aprloc_ros.training.posing.metres.measured import Measured, Posed, upright
from aprloc_ros.training.posing.metres.tag_corners import edge_corners

DICTIONARIES = ('APRILTAG_36h11', 'APRILTAG_25h9', 'APRILTAG_16h5', 'APRILTAG_36h10', '4X4_250', '5X5_250', '6X6_250',
                '7X7_250', 'ARUCO_ORIGINAL', 'ARUCO_MIP_36h12')
_TRIED = 15            # images in which the dictionary is sought
_FEWEST_VIEWS = 3      # of a tag
_MOST_PX = 3.0         # spread of its corners
_MOST_DOUBT = 0.05     # of the logarithm of its side
_DISAGREE_SIGMAS, _DISAGREE = 4.0, 0.015
_EDGE_PX = 0.05        # by which all edges may seem displaced in the same sense, outwards or inwards
_CORNERS = torch.tensor([[-0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, -0.5, 0], [-0.5, -0.5, 0]], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Sighting:
    """A tag's four corners in one image, as a pinhole of focal length 1 sees them."""

    view: int
    corners: Tensor    # [4, 2]
    focal_px: float


@dataclass(frozen=True, eq=False)
class _Tag:
    """A square in the map."""

    R: Tensor          # [3, 3]
    centre: Tensor     # [3]
    log_side: float

    @property
    def corners(self) -> Tensor:
        """[4, 3]"""
        return self.centre + math.exp(self.log_side) * _CORNERS @ self.R.T

    def moved(self, step: Tensor) -> '_Tag':
        """step [7]: rotation, centre, log side."""
        return _Tag(nearest_rotation(so3_exp(step[:3]) @ self.R), self.centre + step[3:6], self.log_side + step[6].item())


def measure_tags(posed: Posed, side_m: float, read: Callable[[int], np.ndarray]) -> Measured:
    """The scale by which tags of one side, black border to black border, are as large as that.

    read: index -> image [H, W, 3] uint8 RGB of posed.cameras. Each tag is a square, fitted to its corners in all views that see
    it, robustly; corners of one view err together, so that errors of the views' poses count too (robust_fit). Raises
    AprlocError where there are none, too few views of each, or tags that disagree on the side.
    """
    check_side(side_m)
    dictionary, seen = find_tags(posed, read)
    fits = {tag: _fitted(sightings, posed.T_map_cam) for tag, sightings in seen.items() if len(sightings) >= _FEWEST_VIEWS}
    sides = {tag: fit for tag, fit in fits.items() if fit is not None}
    if not sides:
        raise AprlocError(f'tags of {dictionary} are seen, but none of {_list(seen)} well enough in {_FEWEST_VIEWS} images or '
                          'more from different places: pass them closer and from several sides; or does one number hang in two places?')
    tags = list(sides)
    logs = torch.tensor([sides[tag][0] for tag in tags], dtype=torch.float64)
    sds = torch.tensor([sides[tag][1] for tag in tags], dtype=torch.float64)
    _check_alike(tags, logs, sds)
    weights = sds ** -2
    side_px = torch.tensor([sides[tag][2] for tag in tags], dtype=torch.float64)
    displaced = (weights @ (2 * _EDGE_PX / side_px) / weights.sum()).item()   # the same for all: no number of views mends it
    scale_sd = math.hypot(math.sqrt(1 / weights.sum().item()), displaced)
    scale = side_m / math.exp((weights @ logs / weights.sum()).item())
    text = (f'tags of {dictionary}: {_list(tags)} of {1000 * side_m:g} mm in {sum(len(seen[tag]) for tag in tags)} images; scale '
            f'known to {100 * scale_sd:.2f} %' + ('; a single tag: a wrong side would not be noticed' if len(tags) == 1 else ''))
    return Measured(upright(scale, up_of_cameras(posed.T_map_cam)[0], scale_sd, f'tags of {1000 * side_m:g} mm'), math.inf, text)


def check_side(side_m: float) -> None:
    """AprlocError for what no tag measures."""
    if not 0.001 <= side_m <= 10:
        raise AprlocError(f'the side of the tags is {side_m} m; it must be 0.001 to 10 m')


def find_tags(posed: Posed, read: Callable[[int], np.ndarray]) -> tuple[str, dict[int, list[Sighting]]]:
    """The dictionary of which most is seen, and its tags' sightings by their number. AprlocError where none is seen."""
    count = len(posed.names)
    detectors = {name: _detector(name) for name in DICTIONARIES}
    some = np.unique(np.linspace(0, count - 1, min(count, _TRIED)).round().astype(int)).tolist()
    for images in (some, range(count)):   # a tag may be passed between some, and seen nowhere else
        found = _sightings(detectors, map(read, images))
        name = max(DICTIONARIES, key=found.__getitem__)
        if found[name] >= 2:
            break
    else:
        raise AprlocError(f'no AprilTags or ArUco markers are seen in {count} images; are they large enough in the image (30 '
                          'pixels or more), with their white margin, and not mirrored?')
    seen = {}
    for index in range(count):
        camera = posed.cameras[index]
        for tag, corners in _detect(detectors[name], read(index)).items():
            seen.setdefault(tag, []).append(Sighting(index, torch.from_numpy(camera.rays_of(corners.astype(np.float64))), (camera.fx + camera.fy) / 2))
    return name, seen


def _sightings(detectors: Mapping[str, object], images: Iterable[np.ndarray]) -> Counter:
    """How many tags of each dictionary are seen in images."""
    found = Counter()
    for image in images:
        found.update({name: len(_detect(detector, image)) for name, detector in detectors.items()})
    return found


def _detector(name: str):
    if not hasattr(getattr(cv2, 'aruco', None), 'ArucoDetector'):
        raise AprlocError(f'tags are read by OpenCV 4.7 or newer, this is {cv2.__version__}: pip install "opencv-python-headless>=4.7,<5"')
    settings = cv2.aruco.DetectorParameters()
    settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    return cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f'DICT_{name}')), settings)


def _detect(detector, image: np.ndarray) -> dict[int, np.ndarray]:
    """Number -> corners [4, 2] in pixels, of the tags that are there once."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    corners, numbers, _ = detector.detectMarkers(grey)
    numbers = [] if numbers is None else numbers.ravel().tolist()
    refined = {number: edge_corners(grey, found[0]) for number, found in zip(numbers, corners) if numbers.count(number) == 1}
    return {number: found for number, found in refined.items() if found is not None}


def _fitted(sightings: list[Sighting], T_map_cam: Tensor) -> tuple[float, float, float] | None:
    """(log of the side in the map's unit, its standard deviation, the side in pixels in the median); None for a tag that is not seen well enough."""
    T = T_map_cam[[sighting.view for sighting in sightings]]
    corners = torch.stack([sighting.corners for sighting in sightings])
    focal_px = torch.tensor([sighting.focal_px for sighting in sightings], dtype=torch.float64)
    start = _start(corners, T)
    if start is None:
        return None
    fit = robust_fit(start, lambda tag: _terms(tag, corners, T, focal_px), _Tag.moved,
                     torch.zeros(7, dtype=torch.float64), torch.arange(len(T)), 0.02)
    sd = fit.covariance[6, 6].sqrt().item()
    used = int((fit.weights[0] > 0.05).sum())
    side_px = (focal_px * (corners[:, 0] - corners[:, 1]).norm(dim=1)).median().item()
    return (fit.state.log_side, sd, side_px) if fit.sigmas[0] < _MOST_PX and sd < _MOST_DOUBT and used >= _FEWEST_VIEWS else None


def _terms(tag: _Tag, corners: Tensor, T: Tensor, focal_px: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of V views in pixels: of the tag's middle [V, 2], and of its corners about it [V, 8], with Jacobians by [7].

    An error of a view's pose shifts the whole tag in it, by more than edges are seen wrong: each has a spread of its own.
    """
    residual, by = _residuals(tag, corners, T, focal_px)
    middle, by_middle = residual.mean(1, keepdim=True), by.mean(1, keepdim=True)
    return [(middle[:, 0], by_middle[:, 0]), ((residual - middle).flatten(1), (by - by_middle).flatten(1, 2))]


def _residuals(tag: _Tag, corners: Tensor, T: Tensor, focal_px: Tensor) -> tuple[Tensor, Tensor]:
    """[V, 4, 2] and Jacobian [V, 4, 2, 7]."""
    X = tag.corners                                                           # [4, 3]
    in_cam = (X - T[:, None, :3, 3]) @ T[:, :3, :3]                           # [V, 4, 3]
    depth = in_cam[..., 2:].clamp_min(1e-6)
    residual = (in_cam[..., :2] / depth - corners) * focal_px[:, None, None]
    slope = torch.cat([torch.eye(2, dtype=torch.float64).expand(*in_cam.shape[:2], 2, 2),
                       -(in_cam[..., :2] / depth)[..., None]], 3) / depth[..., None] * focal_px[:, None, None, None]
    arm = X - tag.centre
    moves = torch.cat([-skew(arm), torch.eye(3, dtype=torch.float64).expand(4, 3, 3), arm[..., None]], 2)   # [4, 3, 7]
    return residual, slope @ T[:, None, :3, :3].mT @ moves


def _start(corners: Tensor, T: Tensor) -> _Tag | None:
    """Each corner by least squares of its rays' cross products (DLT), then the nearest square."""
    X = []
    for corner in range(4):
        rays = torch.cat([corners[:, corner], torch.ones(len(T), 1, dtype=torch.float64)], 1)
        across = skew((T[:, :3, :3] @ rays[..., None])[..., 0])
        X.append(torch.linalg.lstsq(across.flatten(0, 1), (across @ T[:, :3, 3:]).flatten(0, 1)).solution[:, 0])
    X = torch.stack(X)
    centre, arm = X.mean(0), X - X.mean(0)
    in_front = ((centre - T[:, :3, 3]) * T[:, :3, 2]).sum(1) > 0
    side = arm.norm(dim=1).mean() * math.sqrt(2)
    if not torch.isfinite(X).all() or side <= 0 or not in_front.all():
        return None
    return _Tag(nearest_rotation(arm.T @ _CORNERS), centre, math.log(side.item()))


def _check_alike(tags: list[int], logs: Tensor, sds: Tensor) -> None:
    low, high = int(logs.argmin()), int(logs.argmax())
    off = (logs[high] - logs[low]).item()
    if off > max(_DISAGREE_SIGMAS * math.hypot(sds[low].item(), sds[high].item()), _DISAGREE):
        raise AprlocError(f'the tags are not of one side: {tags[high]} is {math.exp(off):.3f} times as large as {tags[low]}; leave '
                          'away those of another side, or those that do not lie flat')


def _list(tags: Iterable[int]) -> str:
    return ', '.join(map(str, sorted(tags)))
