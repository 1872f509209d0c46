"""All textures of a scene in one image with their mip levels, so that a whole view is looked up at once."""

import cv2
import numpy as np

_SHELF_PX = 8192
_SMALLEST_PX = 4
_MARGIN_PX = 2

# sRGB bytes to linear light.
_LINEAR = np.arange(256) / 255
_LINEAR = np.where(_LINEAR <= 0.04045, _LINEAR / 12.92, ((_LINEAR + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _levels(image: np.ndarray) -> list[np.ndarray]:
    """The image and its halves down to a few texels, each an area average of the one before."""
    levels = [image]
    while min(levels[-1].shape[:2]) >= 2 * _SMALLEST_PX:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


class Atlas:
    """Textures by name; `index` gives the number that lookup() wants."""

    def __init__(self, textures: dict[str, np.ndarray], texel_m: float):
        """textures: [H, W, 3] uint8 sRGB, each repeats endlessly; texel_m: size of their texels."""
        self.index = {name: i for i, name in enumerate(textures)}
        pyramids = [_levels(image) for image in textures.values()]
        tiles = [level for pyramid in pyramids for level in pyramid]
        self._texel_m = texel_m
        self._first = np.cumsum([0] + [len(p) for p in pyramids[:-1]])
        self._last = self._first + [len(p) - 1 for p in pyramids]
        self._size = np.array([image.shape[:2] for image in textures.values()], np.float32) * texel_m
        self._tile_px = np.array([tile.shape[:2] for tile in tiles], np.float32)
        self._corner = np.zeros((len(tiles), 2), np.float32)
        self._image = self._pack(tiles)

    def _pack(self, tiles: list[np.ndarray]) -> np.ndarray:
        """Lay the tiles on shelves, tallest first, each with a margin that repeats it."""
        x, y, shelf, places = 0, 0, 0, {}
        for i in sorted(range(len(tiles)), key=lambda i: -tiles[i].shape[0]):
            height, width = (n + 2 * _MARGIN_PX for n in tiles[i].shape[:2])
            if x + width > _SHELF_PX:
                x, y, shelf = 0, y + shelf, 0
            places[i] = y, x
            x, shelf = x + width, max(shelf, height)
        image = np.zeros((y + shelf, _SHELF_PX, 3), np.uint8)
        for i, (y, x) in places.items():
            tile = np.pad(tiles[i], ((_MARGIN_PX, _MARGIN_PX), (_MARGIN_PX, _MARGIN_PX), (0, 0)), mode='wrap')
            image[y:y + tile.shape[0], x:x + tile.shape[1]] = tile
            self._corner[i] = y + _MARGIN_PX, x + _MARGIN_PX
        return image

    def lookup(self, texture: np.ndarray, u_m: np.ndarray, v_m: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
        """Trilinear lookup in linear light: all arguments [H, W] (v up) -> [H, W, 3] float32."""
        first, last = self._first[texture], self._last[texture]
        level = np.clip(np.log2(np.maximum(footprint_m, 1e-6) / self._texel_m), 0, last - first)
        coarse = level.astype(np.int32)
        share = (level - coarse).astype(np.float32)[..., None]
        height, width = self._size[texture, 0], self._size[texture, 1]
        across = np.mod(u_m / width, 1)
        down = 1 - np.mod(v_m / height, 1)
        near = self._sample(first + coarse, across, down)
        far = self._sample(np.minimum(first + coarse + 1, last), across, down)
        return near + share * (far - near)

    def _sample(self, tile: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        x = across * self._tile_px[tile, 1] + self._corner[tile, 1] - 0.5
        y = down * self._tile_px[tile, 0] + self._corner[tile, 0] - 0.5
        texels = cv2.remap(self._image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        return cv2.LUT(texels, _LINEAR)
