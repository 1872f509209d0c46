"""Rays against closed-form solids: where in an image they can be, and the nearest hits."""

import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.training.place.solids import NEAR

_EDGES = np.array([(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit])


def cast(solids, origin, direction, windows) -> tuple[np.ndarray, np.ndarray]:
    """Nearest hits. origin, direction: triples of floats or [H, W]; windows: [S, 4] first and last rows and columns
    where each solid can be -> ray parameter [H, W] float32 (infinity for none) and solid [H, W] (len(solids) for none).
    """
    shape = np.broadcast_shapes(*(np.shape(c) for c in (*origin, *direction)))
    nearest = np.full(shape, np.inf, np.float32)
    index = np.full(shape, len(solids), np.int16)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        for i, (top, bottom, left, right) in enumerate(windows):
            if top >= bottom or left >= right:
                continue
            part = np.s_[top:bottom, left:right]
            t = solids[i].intersect(window(origin, part), window(direction, part))
            closer = t < nearest[part]
            np.copyto(nearest[part], t, where=closer, casting='same_kind')
            np.copyto(index[part], i, where=closer)
    return nearest, index


def window(xyz, part):
    """A part of the raster of a triple of floats or [H, W]."""
    return tuple(c if np.ndim(c) == 0 else c[part] for c in xyz)


def bounds(low: np.ndarray, high: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel ranges [S, 4] that cover [low, high] ([S, 2] each, (u, v)), clipped to the image."""
    low = np.clip(np.floor(low), 0, [width, height])
    high = np.clip(np.ceil(high) + 1, 0, [width, height])
    return np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], -1).astype(int)


def camera_windows(corners: np.ndarray, camera: Camera, T_map_cam: np.ndarray) -> np.ndarray:
    """Where in the image boxes can be: corners [S, 8, 3] in the map -> [S, 4]; what is behind the camera is cut off."""
    points = (corners - T_map_cam[:3, 3]) @ T_map_cam[:3, :3]
    start, end = points[:, _EDGES[:, 0]], points[:, _EDGES[:, 1]]
    rise = end[..., 2:] - start[..., 2:]
    cut = start + (end - start) * np.clip((NEAR - start[..., 2:]) / np.where(rise == 0, 1, rise), 0, 1)
    ends = np.concatenate([np.where(p[..., 2:] < NEAR, cut, p) for p in (start, end)], 1)
    seen = np.tile((np.maximum(start[..., 2], end[..., 2]) >= NEAR), (1, 2))
    pixels = ends[..., :2] / np.maximum(ends[..., 2:], NEAR) * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    low = np.where(seen[..., None], pixels, np.inf).min(1)
    high = np.where(seen[..., None], pixels, -np.inf).max(1)
    return bounds(np.clip(low, -9, 1e6), np.clip(high, -9, 1e6), camera.height, camera.width)


def camera_rays(camera: Camera, T_map_cam: np.ndarray) -> tuple[tuple, tuple]:
    """Origin (floats) and directions ([H, W] float32 each) through the pixel centres; their parameter is the depth."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = ((np.arange(camera.height) - camera.cy) / camera.fy)[:, None]
    R = T_map_cam[:3, :3]
    return tuple(T_map_cam[:3, 3].tolist()), tuple((x * r[0] + y * r[1] + r[2]).astype(np.float32) for r in R)
