"""The same view in another light: relightings of a photograph, in linear light unless they say otherwise."""

from collections.abc import Callable

import cv2
import numpy as np

# An image [H, W, 3] uint8 RGB and a generator -> the same view, relit.
Relighting = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_GAMMA = 2.2
_NOISE = 0.004               # standard deviation in linear light, of a camera in the dark
_FIELD_CELLS = 4, 5          # of a local light field, down and across
_WARM, _COOL = (1.6, 1.0, 0.35), (0.6, 0.9, 1.6)
_SHADOWS, _SHADE = 3, 0.15   # polygons, and what light is left in one
_SPOTS, _SPOT_SIZE, _AMBIENT = 3, 0.16, 0.02
_LAMP = (1.2, 0.75, 0.36)


def relightings() -> dict[str, Relighting]:
    """By name."""
    return {'x4 overexposed': _lit(lambda shape, rng: 4.0),
            'warm lamp: gains 1.6, 1, 0.35, x0.6': _lit(lambda shape, rng: 0.6 * np.array(_WARM)),
            'cool shade: gains 0.6, 0.9, 1.6, x0.4': _lit(lambda shape, rng: 0.4 * np.array(_COOL)),
            'local light 0.1 to 1.5': _lit(lambda shape, rng: _field(shape, 0.1, 1.5, rng)),
            'local light 0.03 to 2, cast 1.4, 1, 0.5': _lit(
                lambda shape, rng: _field(shape, 0.03, 2.0, rng) * np.array((1.4, 1.0, 0.5))),
            'hard cast shadows': _lit(_shadows),
            'dark: x0.15, noise 0.004': _lit(lambda shape, rng: 0.15, _NOISE),
            'very dark: x0.04, noise 0.004': _lit(lambda shape, rng: 0.04, _NOISE),
            'night lamps: three warm spots, noise 0.004': _lit(_spots, _NOISE),
            'local contrast changed (CLAHE)': _equalised}


def _lit(light: Callable, noise: float = 0.0) -> Relighting:
    """light: (height, width) and a generator -> factors that broadcast with [H, W, 3]."""
    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        linear = (image / 255) ** _GAMMA * light(image.shape[:2], rng) + noise * rng.standard_normal(image.shape)
        return np.round(255 * np.clip(linear, 0, 1) ** (1 / _GAMMA)).astype(np.uint8)
    return apply


def _field(shape, low: float, high: float, rng) -> np.ndarray:
    """[H, W, 1]: smooth, from low to high, even in its logarithm."""
    smooth = cv2.resize(rng.random(_FIELD_CELLS), shape[::-1], interpolation=cv2.INTER_CUBIC)
    share = (smooth - smooth.min()) / np.ptp(smooth)
    return (low * (high / low) ** share)[..., None]


def _shadows(shape, rng) -> np.ndarray:
    """[H, W, 1]: polygons of shade with sharp edges."""
    shade = np.ones(shape, np.float32)
    for _ in range(_SHADOWS):
        corners = rng.random(2) + np.array([0.5, 0.4]) * rng.uniform(-1, 1, (4, 2))
        hull = cv2.convexHull((corners * shape[::-1]).astype(np.int32))
        cv2.fillConvexPoly(shade, hull, _SHADE)
    return shade[..., None]


def _spots(shape, rng) -> np.ndarray:
    """[H, W, 3]: what three lamps light, of a warm colour, and little beside them."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    total = np.full(shape, _AMBIENT)
    for centre_x, centre_y in rng.uniform(0.1, 0.9, (_SPOTS, 2)) * (width, height):
        total += np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * (_SPOT_SIZE * width) ** 2))
    return total[..., None] * np.array(_LAMP)


def _equalised(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of the encoded lightness, as cameras and drivers do it."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(3.0, (8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
