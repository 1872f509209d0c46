"""The bar: structure-based localisation with local features, matches and PnP on the same triangulated points."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.geometry import invert
from aprloc_ros.training.datasets.capture import Frame, SparsePoints
from aprloc_ros.training.structure.vlad import Vocabulary

_SAME_PX = 2.0       # a keypoint this near to a point's projection is that point
_VIEWS = 10
_RANSAC_PX, _RANSAC_ROUNDS = 4.0, 1000
_FEWEST = 6


@dataclass(frozen=True)
class LocalFeatures:
    """A kind of them. Descriptors are float32 of length 1."""

    # An image without distortion [H, W, 3] uint8 RGB -> keypoints [N, 2], descriptors [N, D].
    extract: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    # Descriptors of a query [N, D], those known [K, D], the points they are of [K] -> the point each matches [N], or -1.
    match: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class _View:
    points: np.ndarray        # [N] index into the map's points
    descriptors: np.ndarray   # [N, D]


class FeatureMap:
    """Keypoints of the training views that lie on triangulated points, and a VLAD of each view to retrieve it."""

    def __init__(self, features: LocalFeatures, frames: tuple[Frame, ...], tracks: SparsePoints):
        self._features, self._xyz, self._views, found = features, tracks.xyz.numpy(), [], []
        for index in tqdm(tracks.observations[:, 0].unique().tolist(), desc='features', leave=False, mininterval=2.0):
            frame, points = frames[index], tracks.observations[tracks.observations[:, 0] == index, 1]
            keypoints, descriptors = self._extract(frame.read_image(), frame.camera)
            if not len(keypoints):
                continue
            T = invert(frame.T_map_cam)
            projected, inside = frame.camera.without_distortion().project(tracks.xyz[points] @ T[:3, :3].T + T[:3, 3])
            distance = np.linalg.norm(projected.numpy()[:, None] - keypoints[None], axis=2)
            nearest = distance.argmin(1)
            same = inside.numpy() & (distance[np.arange(len(nearest)), nearest] < _SAME_PX)
            self._views.append(_View(points.numpy()[same], descriptors[nearest[same]]))
            found.append(descriptors)
        self._vocabulary = Vocabulary(np.concatenate(found))
        self._vlads = np.stack([self._vocabulary.vlad(descriptors) for descriptors in found])

    def localize(self, image: np.ndarray, camera: Camera) -> Tensor | None:
        """T_map_cam [4, 4] of an image [H, W, 3] uint8 RGB, or None."""
        keypoints, descriptors = self._extract(image, camera)
        if len(keypoints) < _FEWEST:
            return None
        views = np.argsort(-(self._vlads @ self._vocabulary.vlad(descriptors)))[:_VIEWS]
        points = np.concatenate([self._views[v].points for v in views])
        matched = self._features.match(descriptors, np.concatenate([self._views[v].descriptors for v in views]), points)
        query = np.flatnonzero(matched >= 0)
        return solve_pnp(self._xyz[matched[query]], keypoints[query], camera.matrix, _RANSAC_PX, _RANSAC_ROUNDS,
                         cv2.SOLVEPNP_P3P)

    def _extract(self, image: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        return self._features.extract(warp_image(image, camera, camera.without_distortion()))


def solve_pnp(xyz: np.ndarray, pixels: np.ndarray, intrinsics: np.ndarray, threshold_px: float, rounds: int,
              method: int) -> Tensor | None:
    """RANSAC of OpenCV and Levenberg-Marquardt on its inliers: points [N, 3], pixels [N, 2] -> T_map_cam, or None."""
    if len(xyz) < _FEWEST:
        return None
    cv2.setRNGSeed(0)
    try:
        ok, rotation, translation, inliers = cv2.solvePnPRansac(
            xyz, pixels, intrinsics, None, iterationsCount=rounds, reprojectionError=threshold_px, flags=method)
    except cv2.error:   # degenerate samples
        return None
    if not ok or inliers is None or len(inliers) < _FEWEST:
        return None
    rows = inliers[:, 0]
    rotation, translation = cv2.solvePnPRefineLM(xyz[rows], pixels[rows], intrinsics, None, rotation, translation)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rotation)[0], translation[:, 0]
    return invert(torch.from_numpy(T))
