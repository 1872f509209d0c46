"""Procedural textures: a canvas in metres with noise, masonry and the things that walls carry."""

import cv2
import numpy as np

_SUBPIXEL_BITS = 4


def noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3) -> np.ndarray:
    """Smooth noise of unit deviation, [height, width] float32; `cell` pixels is its largest wavelength."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2 ** octave, 1.0)
        grid = rng.standard_normal((int(height / step) + 2, int(width / step) + 2)).astype(np.float32)
        total += 0.7 ** octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / total.std()


def seamless(image: np.ndarray) -> np.ndarray:
    """Mirror a texture in both directions so that it tiles without seams."""
    wide = np.concatenate([image, image[:, ::-1]], 1)
    return np.concatenate([wide, wide[::-1]], 0)


class Canvas:
    """An image measured in metres: u to the right, v up from the lower left corner. Colours are sRGB, 0 to 255."""

    def __init__(self, rng: np.random.Generator, width_m: float, height_m: float, texel_m: float,
                 colour=(128, 128, 128)):
        self.rng, self.texel_m = rng, texel_m
        self.width_m, self.height_m = width_m, height_m
        shape = max(round(height_m / texel_m), 8), max(round(width_m / texel_m), 8)
        self.image = np.empty((*shape, 3), np.uint8)  # [H, W, 3]
        self.image[:] = colour

    def noise(self, cell_m: float, octaves: int = 3) -> np.ndarray:
        """[H, W] smooth noise of this canvas' size."""
        return noise(self.rng, *self.image.shape[:2], cell_m / self.texel_m, octaves)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Metres (u [1, W], v [H, 1]) of the texel centres."""
        height, width = self.image.shape[:2]
        u = (np.arange(width, dtype=np.float32) + 0.5) * (self.width_m / width)
        v = (height - np.arange(height, dtype=np.float32) - 0.5) * (self.height_m / height)
        return u[None], v[:, None]

    def modulate(self, factor: np.ndarray):
        """Multiply the picture by a factor [H, W] or [H, W, 3]."""
        factor = factor[..., None] if factor.ndim == 2 else factor
        self.image = np.clip(self.image * factor, 0, 255).astype(np.uint8)

    def blend(self, mask: np.ndarray, colour):
        """Mix in a colour ([3] or [H, W, 3]) where mask [H, W] in [0, 1] says so."""
        mixed = self.image + np.clip(mask, 0, 1)[..., None] * (np.asarray(colour, np.float32) - self.image)
        self.image = np.clip(mixed, 0, 255).astype(np.uint8)

    def grain(self, cell_m: float, strength: float, octaves: int = 3):
        """Vary the brightness."""
        self.modulate(1 + strength * self.noise(cell_m, octaves))

    def _points(self, uv_m) -> np.ndarray:
        height, width = self.image.shape[:2]
        uv = np.asarray(uv_m, np.float64)
        x = uv[..., 0] * width / self.width_m - 0.5
        y = height - uv[..., 1] * height / self.height_m - 0.5
        return np.round(np.stack([x, y], -1) * 2 ** _SUBPIXEL_BITS).astype(np.int32)

    def polygon(self, uv_m, colour):
        """Fill a polygon of points (u, v)."""
        cv2.fillPoly(self.image, [self._points(uv_m)], tuple(map(int, colour)), cv2.LINE_AA, _SUBPIXEL_BITS)

    def line(self, uv_m, colour, thickness_m: float):
        """Draw an open line."""
        thickness = max(1, round(thickness_m / self.texel_m))
        cv2.polylines(self.image, [self._points(uv_m)], False, tuple(map(int, colour)), thickness, cv2.LINE_AA,
                      _SUBPIXEL_BITS)

    def box(self, u: float, v: float, width: float, height: float, colour):
        """Fill a rectangle whose lower left corner is (u, v)."""
        self.polygon([(u, v), (u + width, v), (u + width, v + height), (u, v + height)], colour)

    def disc(self, u: float, v: float, radius: float, colour):
        """Fill a disc around (u, v)."""
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        self.polygon(np.stack([u + radius * np.cos(angle), v + radius * np.sin(angle)], -1), colour)

    def arch(self, u: float, v: float, width: float, spring: float, colour, pointed: bool = False):
        """Fill an arched opening centred on u: straight to v + spring, then round or pointed."""
        radius = width if pointed else width / 2
        angle = np.linspace(0, np.pi / 3 if pointed else np.pi / 2, 12)
        right = np.stack([u + width / 2 - radius + radius * np.cos(angle), v + spring + radius * np.sin(angle)], -1)
        left = np.stack([2 * u - right[::-1, 0], right[::-1, 1]], -1)
        self.polygon(np.concatenate([[(u - width / 2, v), (u + width / 2, v)], right, left]), colour)

    def text(self, u: float, v: float, text: str, height: float, colour):
        """Write text centred on (u, v) with capitals of that height."""
        scale = height / self.texel_m / 21
        thickness = max(1, round(height / self.texel_m / 7))
        (width_px, height_px), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
        x, y = self._points((u, v)) / 2 ** _SUBPIXEL_BITS
        cv2.putText(self.image, text, (round(x - width_px / 2), round(y + height_px / 2)), cv2.FONT_HERSHEY_DUPLEX,
                    scale, tuple(map(int, colour)), thickness, cv2.LINE_AA)

    def masonry(self, course_m: float, length_m: float, colours, joint, joint_m: float = 0.02, bond: float = 0.5):
        """Lay courses of bricks or stones; each takes one of the colours. bond: offset of every second course,
        0 shifts courses at random."""
        u, v = self.grid()
        row = np.floor(v / course_m).astype(int)
        rows = row.max() + 1
        shift = np.arange(rows) % 2 * bond if bond else self.rng.random(rows)
        along = u / length_m + shift[row]
        column = np.floor(along).astype(int)
        palette = np.asarray(colours, np.float32)
        pick = self.rng.integers(len(palette), size=(rows, column.max() + 1))
        tone = self.rng.normal(1, 0.09, pick.shape).astype(np.float32)
        stones = palette[pick[row, column]] * tone[row, column][..., None]
        across_m = np.minimum(v % course_m, course_m - v % course_m)
        along_m = (along - column) * length_m
        edge_m = np.minimum(across_m, np.minimum(along_m, length_m - along_m))
        is_stone = np.clip((edge_m - joint_m / 2) / self.texel_m + 0.5, 0, 1)[..., None]
        self.image = np.clip(is_stone * stones + (1 - is_stone) * np.asarray(joint, np.float32),
                             0, 255).astype(np.uint8)

    def weather(self, strength: float = 0.07):
        """Stains: large patches, rain streaks and a darker foot."""
        height, width = self.image.shape[:2]
        streaks = cv2.resize(noise(self.rng, max(height // 24, 4), width, 0.4 / self.texel_m), (width, height))
        _, v = self.grid()
        foot = 1 - 0.3 * np.exp(-v / 0.35)
        self.modulate((1 + strength * (self.noise(3.0) + 0.7 * streaks + 0.5 * self.noise(0.08, 1))) * foot)

    def ivy(self, u: float, width: float, height: float):
        """Ivy that climbs from the ground around u."""
        grid_u, v = self.grid()
        reach = 1 - ((grid_u - u) / (width / 2)) ** 2 - (v / height) ** 2
        mask = np.clip(2.5 * (reach + 0.35 * self.noise(0.9, 4)) / 0.4, 0, 1)
        leaf = np.clip(1 + 0.45 * self.noise(0.16, 2), 0.25, 1.9)[..., None]
        self.blend(mask, np.array([62, 98, 44], np.float32) * leaf)
