"""A ray caster in NumPy: views of a scene of closed-form solids in sun and shade, with exact depth."""

from dataclasses import dataclass

import cv2
import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.training.place.atlas import Atlas
from aprloc_ros.training.place.days import TODAY, Day
from aprloc_ros.training.place.rays import camera_rays, camera_windows, cast
from aprloc_ros.training.place.shadow import Shadow, in_shadow_of
from aprloc_ros.training.place.solids import UNTINTED, dot_arrays
from aprloc_ros.training.place.weather import Weather

SUPERSAMPLING = 2            # rays per pixel and axis, for colour; depth takes one ray through the pixel's centre
SKY_RIM_DEG = 100.0          # angle from the zenith at the rim of the sky texture
_OBLIQUITY = 0.6            # 0.5 would sharpen oblique surfaces at the price of shimmer, 1 would blur them
GLOWING = 'glowing'          # texture of what shines itself where lamps are lit
_GLOW = 12.0                 # its radiance, of the light that it throws a metre far
_NEAREST_LAMP_M = 0.3


@dataclass(frozen=True)
class Scene:
    """Solids and their textures ([H, W, 3] uint8 by name, with one named 'sky'), and the day that lights them."""

    solids: tuple
    textures: dict
    texel_m: float
    day: Day = TODAY
    lamps: tuple = ()      # (x, y, z) of each that is lit
    seed: int = 0          # of puddles and snowdrifts


class Renderer:
    """Draws views of a scene; what does not depend on the view is computed once. Threads may share it."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self._atlas = Atlas(scene.textures, scene.texel_m)
        self._shadow = Shadow(scene.solids, scene.day.to_sun) if scene.day.to_sun else None
        self._weather = Weather(scene.solids, scene.day, scene.seed) if scene.day.snow or scene.day.water else None

    def render(self, camera: Camera, T_map_cam: np.ndarray, actors: tuple = ()) -> tuple[np.ndarray, np.ndarray]:
        """One view. camera: pinhole; T_map_cam: [4, 4]; actors: solids of this moment, never in the depth
        -> radiance [H, W, 3] float32 in linear light, depth along the optical axis [H, W] float32 m (0: none).
        """
        solids = self.scene.solids + tuple(actors)
        corners = np.stack([solid.corners() for solid in solids])
        nearest, index = cast(solids, *camera_rays(camera, T_map_cam), camera_windows(corners, camera, T_map_cam))
        depth = np.where(index < len(self.scene.solids), nearest, 0)
        fine = camera.resized(SUPERSAMPLING * camera.width, SUPERSAMPLING * camera.height)
        hits = _trace(solids, corners, fine, T_map_cam)
        colour = self._shade(solids, *hits, self._sunlight(actors, hits[0], fine, T_map_cam),
                             self._reached(hits[0], hits[-1]), self._mirror(solids, corners, fine, T_map_cam))
        return cv2.resize(colour, (camera.width, camera.height), interpolation=cv2.INTER_AREA), depth

    def _sunlight(self, actors, point, camera: Camera, T_map_cam: np.ndarray) -> np.ndarray:
        """Share of the sun that reaches points (triple of [H, W]) -> [H, W]."""
        if self._shadow is None:
            return np.zeros_like(point[0])
        return self._shadow.lit(point) * ~in_shadow_of(actors, self.scene.day.to_sun, point, camera, T_map_cam)

    def _reached(self, point, index) -> np.ndarray | None:
        """Share of rain or snow that reaches points (triple of [H, W]) -> [H, W]; None on other days."""
        return self._weather and self._weather.reached(point) * (index < len(self.scene.solids))

    def _mirror(self, solids, corners, camera: Camera, T_map_cam: np.ndarray) -> np.ndarray | None:
        """What each pixel [H, W, 3] would show if the ground were a mirror; None on dry days."""
        if not self.scene.day.water:
            return None
        above = corners[..., 2].max(1) > 0
        solids = tuple(solid for solid, is_above in zip(solids, above) if is_above)
        hits = _trace(solids, corners[above] * (1, 1, -1), camera, T_map_cam, upside_down=True)
        return self._shade(solids, *hits, self._sunlight((), hits[0], camera, T_map_cam))

    def _shade(self, solids, point, direction, footprint_m, index, sunlight, reached=None, mirror=None) -> np.ndarray:
        """Radiance of the hits, [H, W, 3]. Hits are sorted by solid, so that those of one solid are contiguous."""
        day = self.scene.day
        order = np.argsort(index, axis=None, kind='stable')
        ends = np.searchsorted(index.ravel()[order], np.arange(len(solids) + 1))
        parts = [np.s_[start:end] for start, end in zip(ends, [*ends[1:], order.size])]
        point, direction = (tuple(c.ravel()[order] for c in xyz) for xyz in (point, direction))
        texture, u, v, footprint_m, lambert, up, lamplight = self._surfaces(
            solids, parts, point, direction, footprint_m.ravel()[order])
        colour = self._atlas.lookup(*(c.reshape(index.shape) for c in (texture, u, v, footprint_m))).reshape(-1, 3)
        light = (np.maximum(lambert, 0) * sunlight.ravel()[order])[:, None] * day.sun.rgb
        light += (0.5 + 0.5 * up)[:, None] * day.sky.rgb + (0.5 - 0.5 * up)[:, None] * day.bounce.rgb
        if self.scene.lamps:
            light += lamplight[:, None] * day.lamps.rgb
        light[parts[-1]] = day.zenith.rgb
        for solid, part in zip(solids, parts):
            if solid.texture == GLOWING and day.lamps:
                light[part] = _GLOW * day.lamps.rgb
        colour *= light
        for solid, part in zip(solids, parts):
            if solid.tint != UNTINTED:
                colour[part] *= np.array(solid.tint, np.float32)
        if reached is not None:
            mirror = None if mirror is None else mirror.reshape(-1, 3)[order]
            colour = self._fallen_on(index.shape, colour, light, reached.ravel()[order], point, up, direction, mirror)
        raster = np.empty_like(colour)
        raster[order] = colour
        return raster.reshape(*index.shape, 3)

    def _surfaces(self, solids, parts, point, direction, footprint_m) -> tuple:
        """Of each hit: texture, u, v, footprint on the surface (m), cosine to the sun, upward part of the normal, and
        what the lamps throw on it (1: one lamp, facing it, 1 m away).
        """
        u, v, lambert, up, lamplight = (np.zeros_like(footprint_m) for _ in range(5))
        texture = np.full(footprint_m.size, self._atlas.index['sky'])
        length = np.sqrt(dot_arrays(direction, direction))
        for solid, part in zip(solids, parts):
            if part.start == part.stop:
                continue
            here = tuple(c[part] for c in point)
            normal, u[part], v[part] = solid.surface(here)
            facing = dot_arrays(normal, tuple(c[part] for c in direction))
            towards = -np.sign(facing)
            if self.scene.day.to_sun:
                lambert[part] = towards * dot_arrays(normal, self.scene.day.to_sun)
            up[part] = towards * normal[2]
            for lamp in self.scene.lamps:
                lamplight[part] += np.maximum(towards * _lamp_factor(lamp, here, normal), 0)
            cosine = np.maximum(np.abs(facing) / length[part], np.float32(0.05))
            footprint_m[part] *= length[part] * cosine ** np.float32(-_OBLIQUITY)
            texture[part] = self._atlas.index[solid.texture]
        sky = parts[-1]
        u[sky], v[sky] = self._sky_coordinates(tuple(c[sky] for c in direction), length[sky])
        footprint_m[sky] = 0
        return texture, u, v, footprint_m, lambert, up, lamplight

    def _fallen_on(self, shape, colour, light, reached, point, up, direction, mirror) -> np.ndarray:
        """Weather.fall_on for rows of hits, [N, 3]; OpenCV wants rasters of that shape."""
        point, direction = (tuple(c.reshape(shape) for c in xyz) for xyz in (point, direction))
        colour, light, mirror = (c if c is None else c.reshape(*shape, 3) for c in (colour, light, mirror))
        return self._weather.fall_on(colour, light, reached.reshape(shape), point, up.reshape(shape), direction, mirror
                                     ).reshape(-1, 3)

    def _sky_coordinates(self, direction, length) -> tuple[np.ndarray, np.ndarray]:
        """Place on the sky's texture, in its metres: the angle from the zenith is the distance from its centre."""
        half_m = 0.5 * self.scene.textures['sky'].shape[0] * self.scene.texel_m
        x, y, z = direction
        radius = np.rad2deg(np.arccos(np.clip(z / length, -1, 1))) / SKY_RIM_DEG
        across = np.maximum(np.hypot(x, y), 1e-9)
        return half_m * (1 + 0.99 * radius * x / across), half_m * (1 + 0.99 * radius * y / across)


def _trace(solids, corners, camera: Camera, T_map_cam: np.ndarray, upside_down: bool = False) -> tuple:
    """Nearest hits of the pixels: point, direction (triples of [H, W]), footprint (m) and solid [H, W] each.

    corners: [S, 8, 3] of the solids; upside_down: the rays are those that level ground at 0 mirrors, and so must the
    corners be.
    """
    (x, y, z), (dx, dy, dz) = camera_rays(camera, T_map_cam)
    origin, direction = ((x, y, -z), (dx, dy, -dz)) if upside_down else ((x, y, z), (dx, dy, dz))
    nearest, index = cast(solids, origin, direction, camera_windows(corners, camera, T_map_cam))
    nearest = np.where(np.isfinite(nearest), nearest, 0)
    return tuple(o + nearest * d for o, d in zip(origin, direction)), direction, nearest / np.float32(camera.fx), index


def _lamp_factor(lamp: tuple, point, normal) -> np.ndarray:
    """Cosine over squared distance, in 1/m2, of a lamp as points (triple of [N]) with a normal see it."""
    away = tuple(l - p for l, p in zip(lamp, point))
    squared = np.maximum(dot_arrays(away, away), np.float32(_NEAREST_LAMP_M ** 2))
    return dot_arrays(normal, away) / (squared * np.sqrt(squared))
