"""A ray caster in NumPy: views of a scene of closed-form solids in sun and shade, with exact depth."""

from dataclasses import dataclass

import cv2
import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.training.place.atlas import Atlas
from aprloc_ros.training.place.solids import NEAR, UNTINTED, dot, dot_arrays

SUPERSAMPLING = 2            # rays per pixel and axis, for colour; depth takes one ray through the pixel's centre
SUN = tuple((np.array([-0.42, -0.34, 0.84]) / np.linalg.norm([-0.42, -0.34, 0.84])).tolist())   # towards the sun
SUN_COLOUR = np.array([1.0, 0.93, 0.80], np.float32) * 2.1
SKY_COLOUR = np.array([0.78, 0.88, 1.0], np.float32) * 0.62
BOUNCE_COLOUR = np.array([1.0, 0.92, 0.78], np.float32) * 0.34
SKY_RADIANCE = 1.5           # of a white cloud
SKY_RIM_DEG = 100.0          # angle from the zenith at the rim of the sky texture
_OBLIQUITY = 0.6            # 0.5 would sharpen oblique surfaces at the price of shimmer, 1 would blur them
_SHADOW_CELL_M = 0.025
_EDGES = np.array([(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit])


@dataclass(frozen=True)
class Scene:
    """Solids and their textures ([H, W, 3] uint8 by name, with one named 'sky')."""

    solids: tuple
    textures: dict
    texel_m: float


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
            t = solids[i].intersect(_window(origin, part), _window(direction, part))
            closer = t < nearest[part]
            np.copyto(nearest[part], t, where=closer, casting='same_kind')
            np.copyto(index[part], i, where=closer)
    return nearest, index


def _window(xyz, part):
    return tuple(c if np.ndim(c) == 0 else c[part] for c in xyz)


def _bounds(low: np.ndarray, high: np.ndarray, height: int, width: int) -> np.ndarray:
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
    return _bounds(np.clip(low, -9, 1e6), np.clip(high, -9, 1e6), camera.height, camera.width)


def camera_rays(camera: Camera, T_map_cam: np.ndarray) -> tuple[tuple, tuple]:
    """Origin (floats) and directions ([H, W] float32 each) through the pixel centres; their parameter is the depth."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = ((np.arange(camera.height) - camera.cy) / camera.fy)[:, None]
    R = T_map_cam[:3, :3]
    return tuple(T_map_cam[:3, 3].tolist()), tuple((x * r[0] + y * r[1] + r[2]).astype(np.float32) for r in R)


class Shadow:
    """Which points see the sun: depth along its rays over the whole scene, on a grid across them."""

    def __init__(self, solids):
        first = np.cross(SUN, [0, 0, 1])
        first /= np.linalg.norm(first)
        self._axes = tuple(first.tolist()), tuple(np.cross(SUN, first).tolist())
        corners = np.stack([solid.corners() for solid in solids])
        across = corners @ np.array(self._axes).T
        self._low = across.min((0, 1))
        width, height = np.ceil((across.max((0, 1)) - self._low) / _SHADOW_CELL_M).astype(int) + 1
        self._far = float((corners @ SUN).max()) + 1
        low, high = ((edge(across, 1) - self._low) / _SHADOW_CELL_M for edge in (np.min, np.max))
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        u, v = ((c * _SHADOW_CELL_M + o).astype(np.float32) for c, o in zip((u, v), self._low))
        origin = tuple(a * u + b * v + self._far * s for a, b, s in zip(*self._axes, SUN))
        down = tuple(-s for s in SUN)
        self._depth, _ = cast(solids, origin, down, _bounds(low, high, height, width))

    def lit(self, point) -> np.ndarray:
        """Share of the sun that reaches points (triple of [H, W]) -> [H, W] float32, soft over one cell."""
        u, v = ((dot(axis, point) - low) / _SHADOW_CELL_M for axis, low in zip(self._axes, self._low))
        depth = self._far - dot(SUN, point) - 0.06
        column, row = np.floor(u), np.floor(v)
        share_u, share_v = u - column, v - row
        total = 0
        for du, dv, weight in ((0, 0, (1 - share_u) * (1 - share_v)), (1, 0, share_u * (1 - share_v)),
                               (0, 1, (1 - share_u) * share_v), (1, 1, share_u * share_v)):
            blocker = cv2.remap(self._depth, (column + du).astype(np.float32), (row + dv).astype(np.float32),
                                cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            total = total + weight * (depth < blocker)
        return total.astype(np.float32)


class Renderer:
    """Draws views of a scene; what does not depend on the view is computed once. Threads may share it."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self._atlas = Atlas(scene.textures, scene.texel_m)
        self._shadow = Shadow(scene.solids)

    def render(self, camera: Camera, T_map_cam: np.ndarray, actors: tuple = ()) -> tuple[np.ndarray, np.ndarray]:
        """One view. camera: pinhole; T_map_cam: [4, 4]; actors: solids of this moment, never in the depth
        -> radiance [H, W, 3] float32 in linear light, depth along the optical axis [H, W] float32 m (0: none).
        """
        solids = self.scene.solids + tuple(actors)
        corners = np.stack([solid.corners() for solid in solids])
        nearest, index = cast(solids, *camera_rays(camera, T_map_cam), camera_windows(corners, camera, T_map_cam))
        depth = np.where(index < len(self.scene.solids), nearest, 0)
        fine = camera.resized(SUPERSAMPLING * camera.width, SUPERSAMPLING * camera.height)
        origin, direction = camera_rays(fine, T_map_cam)
        nearest, index = cast(solids, origin, direction, camera_windows(corners, fine, T_map_cam))
        nearest = np.where(np.isfinite(nearest), nearest, 0)
        point = tuple(o + nearest * d for o, d in zip(origin, direction))
        sunlight = self._shadow.lit(point) * ~_in_shadow_of(actors, point, fine, T_map_cam)
        colour = self._shade(solids, point, direction, nearest / np.float32(fine.fx), index, sunlight)
        return cv2.resize(colour, (camera.width, camera.height), interpolation=cv2.INTER_AREA), depth

    def _shade(self, solids, point, direction, footprint_m, index, sunlight) -> np.ndarray:
        """Radiance of the hits, [H, W, 3]. Hits are sorted by solid, so that those of one solid are contiguous."""
        order = np.argsort(index, axis=None, kind='stable')
        ends = np.searchsorted(index.ravel()[order], np.arange(len(solids) + 1))
        parts = [np.s_[start:end] for start, end in zip(ends, [*ends[1:], order.size])]
        point, direction = (tuple(c.ravel()[order] for c in xyz) for xyz in (point, direction))
        texture, u, v, footprint_m, lambert, up = self._surfaces(
            solids, parts, point, direction, footprint_m.ravel()[order])
        colour = self._atlas.lookup(*(c.reshape(index.shape) for c in (texture, u, v, footprint_m))).reshape(-1, 3)
        light = (np.maximum(lambert, 0) * sunlight.ravel()[order])[:, None] * SUN_COLOUR
        light += (0.5 + 0.5 * up)[:, None] * SKY_COLOUR + (0.5 - 0.5 * up)[:, None] * BOUNCE_COLOUR
        light[parts[-1]] = SKY_RADIANCE
        colour *= light
        for solid, part in zip(solids, parts):
            if solid.tint != UNTINTED:
                colour[part] *= np.array(solid.tint, np.float32)
        raster = np.empty_like(colour)
        raster[order] = colour
        return raster.reshape(*index.shape, 3)

    def _surfaces(self, solids, parts, point, direction, footprint_m) -> tuple:
        """Of each hit: texture, u, v, footprint on the surface (m), cosine to the sun, upward part of the normal."""
        u, v, lambert, up = (np.zeros_like(footprint_m) for _ in range(4))
        texture = np.full(footprint_m.size, self._atlas.index['sky'])
        length = np.sqrt(dot_arrays(direction, direction))
        for solid, part in zip(solids, parts):
            if part.start == part.stop:
                continue
            normal, u[part], v[part] = solid.surface(tuple(c[part] for c in point))
            facing = dot_arrays(normal, tuple(c[part] for c in direction))
            towards = -np.sign(facing)
            lambert[part] = towards * dot_arrays(normal, SUN)
            up[part] = towards * normal[2]
            cosine = np.maximum(np.abs(facing) / length[part], np.float32(0.05))
            footprint_m[part] *= length[part] * cosine ** np.float32(-_OBLIQUITY)
            texture[part] = self._atlas.index[solid.texture]
        sky = parts[-1]
        u[sky], v[sky] = self._sky_coordinates(tuple(c[sky] for c in direction), length[sky])
        footprint_m[sky] = 0
        return texture, u, v, footprint_m, lambert, up

    def _sky_coordinates(self, direction, length) -> tuple[np.ndarray, np.ndarray]:
        """Place on the sky's texture, in its metres: the angle from the zenith is the distance from its centre."""
        half_m = 0.5 * self.scene.textures['sky'].shape[0] * self.scene.texel_m
        x, y, z = direction
        radius = np.rad2deg(np.arccos(np.clip(z / length, -1, 1))) / SKY_RIM_DEG
        across = np.maximum(np.hypot(x, y), 1e-9)
        return half_m * (1 + 0.99 * radius * x / across), half_m * (1 + 0.99 * radius * y / across)


def _in_shadow_of(actors, point, camera: Camera, T_map_cam: np.ndarray) -> np.ndarray:
    """Whether a moving body hides the sun from points (triple of [H, W]) -> bool [H, W]."""
    hidden = np.zeros(point[0].shape, bool)
    for solid in actors:
        corners = solid.corners()
        fallen = corners - corners[:, 2:] / SUN[2] * SUN
        low, high = (edge([edge(corners, 0), edge(fallen, 0)], 0) for edge in (np.min, np.max))
        around = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (0, high[2])])
        (top, bottom, left, right), = camera_windows(around[None], camera, T_map_cam)
        if top < bottom and left < right:
            part = np.s_[top:bottom, left:right]
            with np.errstate(divide='ignore', invalid='ignore'):
                hidden[part] |= np.isfinite(solid.intersect(_window(point, part), SUN))
    return hidden
