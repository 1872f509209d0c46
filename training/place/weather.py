"""What fell from the sky, on what it could reach: snow, or water that darkens and mirrors."""

import cv2
import numpy as np

from aprloc_ros.training.place.days import Day
from aprloc_ros.training.place.shadow import Shadow
from aprloc_ros.training.place.solids import dot_arrays
from aprloc_ros.training.place.texture import noise

FELL_FROM = 0.05, 0.03, float(np.sqrt(1 - 0.05 ** 2 - 0.03 ** 2))   # unit vector: almost straight down, there was some wind
SNOW_ALBEDO = np.array([0.84, 0.87, 0.92], np.float32)
_STEEPEST = 0.35, 0.6               # upward part of a normal where nothing holds, and where all does
_WET_ALBEDO = 0.5                   # of dry
_FILM, _PUDDLE = 0.4, 1.0           # share of the Fresnel reflection that a film and a puddle mirror
_NORMAL_REFLECTANCE = 0.02          # of water, at right angles
_LEVEL_M = 0.01                     # what lies below is ground, which mirrors
_CELL_M, _HALF_M = 0.05, 20.0       # patches cover the place from -20 m to 20 m


class Weather:
    """Snow or water on the solids of a day that has either."""

    def __init__(self, solids, day: Day, seed: int):
        self._day = day
        self._open = Shadow(solids, FELL_FROM)
        side = round(2 * _HALF_M / _CELL_M)
        self._patches = noise(np.random.default_rng([seed, 104, day.number]), side, side, 2.5 / _CELL_M, 6)  # [H, W]

    def reached(self, point) -> np.ndarray:
        """Share [H, W] of points (triple of [H, W]) that it could fall on."""
        return self._open.lit(point)

    def fall_on(self, radiance, light, reached, point, up, direction, mirror) -> np.ndarray:
        """Radiance [H, W, 3] of dry surfaces -> with what lies on them.

        light [H, W, 3] on them; reached [H, W] share; point, direction: triples of [H, W]; up [H, W] upward part of
        their normals; mirror [H, W, 3]: what the ground would show if it were one, None without water.
        """
        patches = self._patch(point)
        flat = np.clip((up - _STEEPEST[0]) / (_STEEPEST[1] - _STEEPEST[0]), 0, 1) * reached
        if self._day.snow:
            lies = flat * self._day.snow * np.clip(1.1 + 0.25 * patches, 0.4, 1)
            white = SNOW_ALBEDO * (1 + 0.07 * np.clip(patches, -2, 2))[..., None]
            return radiance + lies[..., None] * (white * light - radiance)
        wet = flat * self._day.water
        puddle = np.clip(4 * (patches - 0.8), 0, 1)
        mirrored = wet * (point[2] < _LEVEL_M) * (_FILM + (_PUDDLE - _FILM) * puddle) * _fresnel(direction)
        dark = radiance * (1 - (1 - _WET_ALBEDO) * wet)[..., None]
        return dark + mirrored[..., None] * (mirror - dark)

    def _patch(self, point) -> np.ndarray:
        x, y = (((c + _HALF_M) / _CELL_M).astype(np.float32) for c in point[:2])
        return cv2.remap(self._patches, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _fresnel(direction) -> np.ndarray:
    """Schlick's approximation (1994, Eq. 15) for level water seen along direction (triple of [H, W])."""
    cosine = np.abs(direction[2]) / np.sqrt(dot_arrays(direction, direction))
    return _NORMAL_REFLECTANCE + (1 - _NORMAL_REFLECTANCE) * (1 - cosine) ** 5
