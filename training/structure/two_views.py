"""What pairs of images say of themselves: matches that two-view geometry confirms, without any pose of the capture."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.structure.colmap import load_pycolmap

_LONG_SIDE = 640
_FEATURES = 1000
_RATIO = 0.8
_FEWEST_MATCHES = 25
_MOST_MATCHES = 40      # of a pair: what more of them say is the same
_VERIFIED_PX = 3.0
_JUMP, _JUMP_RAD = 3.0, 0.05   # points that move so much further than to the partner before are others that look alike
_WIDEST = 3.5           # tangent of an angle from the optical axis


@dataclass(frozen=True, eq=False)
class ViewPair:
    """Points that two images show, as unit directions in either camera."""

    first: int             # index of the frame
    second: int
    rays: np.ndarray       # [2, N, 3] float64
    turn: np.ndarray       # [3, 3] R_second_first as the images say it; NaN where they do not

    @property
    def moved_rad(self) -> float:
        """By how much the points move between the images, in the median."""
        return float(np.median(np.arccos((self.rays[0] * self.rays[1]).sum(1).clip(-1, 1))))


@dataclass(frozen=True, eq=False)
class _Features:
    pixels: np.ndarray        # [N, 2] of the rectified, reduced image
    rays: np.ndarray          # [N, 3]
    descriptors: np.ndarray   # [N, 128] RootSIFT
    camera: object            # COLMAP's, of the rectified, reduced image


@dataclass(frozen=True, eq=False)
class Matcher:
    """Matches frames by SIFT, each image read once."""

    frames: tuple[Frame, ...]
    _found: dict[int, _Features] = field(default_factory=dict)

    @property
    def read(self) -> list[int]:
        """Frames whose images were looked at, in order."""
        return sorted(self._found)

    def match(self, first: int, second: int) -> ViewPair | None:
        """None where too few matches obey any one two-view geometry."""
        a, b = self._features(first), self._features(second)
        matches = _mutual(a.descriptors, b.descriptors)
        if len(matches) < _FEWEST_MATCHES:
            return None
        return _verified(first, second, a, b, matches)

    def widest(self, first: int, partners: Sequence[int], start: int, wide_rad: float) -> tuple[ViewPair | None, int]:
        """Of partners further and further away the last one that still matches, no wider than is needed, and its rank.

        start: the rank that is tried first, to read few images.
        """
        rank = min(start, len(partners) - 1)
        best = self.match(first, partners[rank]) if partners else None
        while best is None and rank > 0:
            rank -= 1
            best = self.match(first, partners[rank])
        while best and best.moved_rad < wide_rad and rank + 1 < len(partners):
            further = self.match(first, partners[rank + 1])
            if further is None or further.moved_rad > _JUMP * max(best.moved_rad, _JUMP_RAD):
                break
            best, rank = further, rank + 1
        return best, rank

    def _features(self, index: int) -> _Features:
        if index not in self._found:
            self._found[index] = _extract(self.frames[index])
        return self._found[index]


def _extract(frame: Frame) -> _Features:
    pycolmap = load_pycolmap()

    grey = cv2.cvtColor(frame.read_image(), cv2.COLOR_RGB2GRAY)
    camera = frame.camera
    scale = min(1.0, _LONG_SIDE / max(camera.width, camera.height))
    camera = camera.resized(max(1, round(scale * camera.width)), max(1, round(scale * camera.height)))
    grey = cv2.resize(grey, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    keypoints, descriptors = cv2.SIFT_create(_FEATURES).detectAndCompute(grey, None)
    pinhole = pycolmap.Camera(model='PINHOLE', width=camera.width, height=camera.height,
                              params=[camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5])
    if not keypoints:
        return _Features(np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((0, 128), np.float32), pinhole)
    xy = camera.rays_of(np.array([k.pt for k in keypoints], np.float64))
    near = np.abs(xy).max(1) < _WIDEST   # further out the lens models are not inverted
    xy, descriptors = xy[near], descriptors[near]
    rays = np.concatenate([xy, np.ones_like(xy[:, :1])], 1)
    pixels = xy * (camera.fx, camera.fy) + (camera.cx + 0.5, camera.cy + 0.5)
    descriptors = np.sqrt(descriptors / descriptors.sum(1, keepdims=True).clip(1e-9))
    return _Features(pixels, rays / np.linalg.norm(rays, axis=1, keepdims=True), descriptors, pinhole)


def _mutual(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rows of descriptors that are each other's nearest and clearly nearer than the next, [M, 2]."""
    if min(len(a), len(b)) < 2:
        return np.zeros((0, 2), np.uint32)
    likeness = a @ b.T
    best, back = likeness.argmax(1), likeness.argmax(0)
    rows = np.flatnonzero(back[best] == np.arange(len(a)))
    first, second = -np.partition(-likeness[rows], 1, axis=1)[:, :2].T
    kept = rows[1 - first < _RATIO ** 2 * (1 - second)]   # squared distances of unit vectors
    return np.stack([kept, best[kept]], 1).astype(np.uint32)


def _verified(first: int, second: int, a: _Features, b: _Features, matches: np.ndarray) -> ViewPair | None:
    pycolmap = load_pycolmap()

    options = pycolmap.TwoViewGeometryOptions()
    options.compute_relative_pose = True
    options.min_num_inliers = _FEWEST_MATCHES
    options.ransac.max_error = _VERIFIED_PX
    options.ransac.max_num_trials = 1000
    options.ransac.random_seed = 0
    found = pycolmap.estimate_calibrated_two_view_geometry(a.camera, a.pixels, b.camera, b.pixels, matches, options)
    kinds = pycolmap.TwoViewGeometryConfiguration
    if found.config in (kinds.UNDEFINED, kinds.DEGENERATE, kinds.WATERMARK) or len(found.inlier_matches) < _FEWEST_MATCHES:
        return None
    kept = found.inlier_matches[np.linspace(0, len(found.inlier_matches) - 1, _MOST_MATCHES).astype(int)] \
        if len(found.inlier_matches) > _MOST_MATCHES else found.inlier_matches
    known = found.config != kinds.UNCALIBRATED and found.cam2_from_cam1 is not None
    turn = found.cam2_from_cam1.rotation.matrix() if known else np.full((3, 3), np.nan)
    return ViewPair(first, second, np.stack([a.rays[kept[:, 0]], b.rays[kept[:, 1]]]), turn)
