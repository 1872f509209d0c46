"""Which points a far light reaches: the sun, or what falls from the sky."""

import cv2
import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.training.place.rays import bounds, camera_windows, cast, window
from aprloc_ros.training.place.solids import dot

_SHADOW_CELL_M = 0.025
_OWN_M = 0.06                # along the ray: no surface shades what lies this near


class Shadow:
    """Which points see a far light: depth along its rays over the whole scene, on a grid across them."""

    def __init__(self, solids, to_light: tuple):
        """to_light: unit vector towards it, not straight up."""
        self._to_light = to_light
        # A low sun sees level ground so obliquely that it falls by more within a cell.
        self._own_m = max(_OWN_M, 2 * _SHADOW_CELL_M * np.hypot(*to_light[:2]) / to_light[2])
        first = np.cross(to_light, [0, 0, 1])
        first /= np.linalg.norm(first)
        self._axes = tuple(first.tolist()), tuple(np.cross(to_light, first).tolist())
        corners = np.stack([solid.corners() for solid in solids])
        across = corners @ np.array(self._axes).T
        self._low = across.min((0, 1))
        width, height = np.ceil((across.max((0, 1)) - self._low) / _SHADOW_CELL_M).astype(int) + 1
        self._far = float((corners @ to_light).max()) + 1
        low, high = ((edge(across, 1) - self._low) / _SHADOW_CELL_M for edge in (np.min, np.max))
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        u, v = ((c * _SHADOW_CELL_M + o).astype(np.float32) for c, o in zip((u, v), self._low))
        origin = tuple(a * u + b * v + self._far * s for a, b, s in zip(*self._axes, to_light))
        down = tuple(-s for s in to_light)
        self._depth, _ = cast(solids, origin, down, bounds(low, high, height, width))

    def lit(self, point) -> np.ndarray:
        """Share of the light that reaches points (triple of [H, W]) -> [H, W] float32, soft over one cell."""
        u, v = ((dot(axis, point) - low) / _SHADOW_CELL_M for axis, low in zip(self._axes, self._low))
        depth = self._far - dot(self._to_light, point) - self._own_m
        column, row = np.floor(u), np.floor(v)
        share_u, share_v = u - column, v - row
        total = 0
        for du, dv, weight in ((0, 0, (1 - share_u) * (1 - share_v)), (1, 0, share_u * (1 - share_v)),
                               (0, 1, (1 - share_u) * share_v), (1, 1, share_u * share_v)):
            blocker = cv2.remap(self._depth, (column + du).astype(np.float32), (row + dv).astype(np.float32),
                                cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            total = total + weight * (depth < blocker)
        return total.astype(np.float32)


def in_shadow_of(actors, to_sun: tuple, point, camera: Camera, T_map_cam: np.ndarray) -> np.ndarray:
    """Whether a moving body hides the sun from points (triple of [H, W]) -> bool [H, W]."""
    hidden = np.zeros(point[0].shape, bool)
    for solid in actors:
        corners = solid.corners()
        fallen = corners - corners[:, 2:] / to_sun[2] * to_sun
        low, high = (edge([edge(corners, 0), edge(fallen, 0)], 0) for edge in (np.min, np.max))
        around = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (0, high[2])])
        (top, bottom, left, right), = camera_windows(around[None], camera, T_map_cam)
        if top < bottom and left < right:
            part = np.s_[top:bottom, left:right]
            with np.errstate(divide='ignore', invalid='ignore'):
                hidden[part] |= np.isfinite(solid.intersect(window(point, part), to_sun))
    return hidden
