"""Estimators that the neural reprojection error is compared with, on matches of the same features (NRE Table 1).

Not used to localise: they show what is lost where a match takes the place of a loss map.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.refinement import gnc
from aprloc_ros.refinement.loss_maps import LossMaps
from aprloc_ros.refinement.points.minimal import msac

_CONSENSUS = {'lo_ransac': cv2.USAC_DEFAULT, 'gc_ransac': cv2.USAC_ACCURATE, 'magsac': cv2.USAC_MAGSAC}
METHODS = (*_CONSENSUS, 'eq11')

_FEWEST = 4
_TRIPLES = 1000
_CONFIDENCE = 0.999
_SIGMAS = (2.0, 1.0)   # of Eq. 11, in units of the scale
_LEVEL_ITERATIONS = 50


def estimate_from_matches(xyz: Tensor, pixels: Tensor, weights: Tensor, camera: Camera, method: str,
                          scale_px: float = 4.0) -> Tensor | None:
    """The camera pose from putative matches alone: T_map_cam [4, 4] float64, or None where there is none.

    xyz [N, 3] in the map, pixels [N, 2] in the rectified camera; weights [N]: confidence of the matches, by which Eq. 11
    weighs them and draws them first (equal ones are the paper's form; consensus only leaves out those of zero);
    method: one of METHODS; scale_px: how far an inlier may be off, the threshold of the consensus methods (the paper's
    is 4) and the last sigma of Eq. 11.
    Raises AprlocError for another method or a scale that is not positive.
    """
    if method not in METHODS:
        raise AprlocError(f'method {method!r} is not one of {", ".join(METHODS)}')
    if not 0 < scale_px < float('inf'):
        raise AprlocError(f'scale_px is {scale_px}; it must be a positive number of pixels')
    usable = torch.isfinite(torch.cat([xyz, pixels, weights[:, None]], 1)).all(1) & (weights > 0)
    if usable.sum() < _FEWEST:
        return None
    xyz, pixels, weights = (each[usable].double().cpu().numpy() for each in (xyz, pixels, weights))
    T_cam_map = (_smoothed(xyz, pixels, weights, camera, scale_px) if method == 'eq11'
                 else _consensus(xyz, pixels, camera, _CONSENSUS[method], scale_px))
    return None if T_cam_map is None or not np.isfinite(T_cam_map).all() else invert(torch.from_numpy(T_cam_map))


def _consensus(xyz: np.ndarray, pixels: np.ndarray, camera: Camera, flags: int, scale_px: float) -> np.ndarray | None:
    """OpenCV's sample consensus, then least squares on its inliers."""
    found, rotation, translation, inliers = cv2.solvePnPRansac(
        xyz, pixels, camera.matrix, None, iterationsCount=_TRIPLES, reprojectionError=scale_px, confidence=_CONFIDENCE,
        flags=flags)
    if not found or inliers is None or len(inliers) < _FEWEST:
        return None
    kept = inliers[:, 0]
    rotation, translation = cv2.solvePnPRefineLM(xyz[kept], pixels[kept], camera.matrix, None, rotation, translation)
    T_cam_map = np.eye(4)
    T_cam_map[:3, :3], T_cam_map[:3, 3] = cv2.Rodrigues(rotation)[0], translation[:, 0]
    return T_cam_map


def _smoothed(xyz: np.ndarray, pixels: np.ndarray, weights: np.ndarray, camera: Camera,
              scale_px: float) -> np.ndarray | None:
    """Eq. 11 is Eq. 9 with one cell a map: the estimator of the neural reprojection error on cells of scale_px."""
    cells = ((pixels + 0.5) / scale_px - 0.5).astype(np.float32)
    gains = weights.astype(np.float32)
    maps = LossMaps(cells[:, None], gains[:, None], gains)
    grid = gnc.Pinhole(camera.fx / scale_px, camera.fy / scale_px, (camera.cx + 0.5) / scale_px - 0.5,
                       (camera.cy + 0.5) / scale_px - 0.5, camera.width / scale_px, camera.height / scale_px)
    first = msac(maps, xyz, grid, [np.arange(len(maps))], np.zeros((0, 4, 4)), _TRIPLES, np.random.default_rng(0))
    if first is None or first.score <= 0:
        return None
    T_cam_map = first.T_cam_map
    for sigma in _SIGMAS:
        T_cam_map = gnc.minimise(maps, xyz, grid, T_cam_map, sigma, _LEVEL_ITERATIONS).T_cam_map
    return T_cam_map
