"""What depth images hold where points are seen, in the pixels where these should be and in others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from aprloc_ros.geometry import invert
from aprloc_ros.training.datasets.capture import Frame, SparsePoints
from aprloc_ros.training.structure.depths import read_depth

_FRAMES = 40


@dataclass(frozen=True, eq=False)
class DepthView:
    """A depth image and the points that its colour image shows."""

    frames: tuple[Frame, ...]
    index: int            # of its frame among them
    image: np.ndarray     # [H, W]
    pixels: np.ndarray    # [N, 2] of the depth image
    depth_m: np.ndarray   # [N] by the pose
    slant: np.ndarray     # [N] length of the ray at depth 1

    def declared_m(self, moved: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
                   image: np.ndarray | None = None) -> np.ndarray:
        """[N], NaN where nothing is known: there, or where `moved` puts pixels [N, 2] of an image of that (width, height)."""
        image = self.image if image is None else image
        size = np.array(image.shape[::-1])
        u, v = (moved(self.pixels, size) if moved else self.pixels).round().astype(int).T
        inside = (u >= 0) & (u < size[0]) & (v >= 0) & (v < size[1])
        value = image[v.clip(0, size[1] - 1), u.clip(0, size[0] - 1)].astype(float)
        known = inside & np.isfinite(value) & (value > 0) & (value < 65535)
        return np.where(known, value * self.frames[self.index].depth_unit_m, np.nan)

    def neighbour(self, by: int) -> np.ndarray:
        """The depth image of the frame so many later in the sequence; its own where there is none."""
        own, other = self.frames[self.index], self.frames[min(max(self.index + by, 0), len(self.frames) - 1)]
        return read_depth(other) if other.depth_path and other.sequence == own.sequence else self.image


def depth_views(frames: tuple[Frame, ...], points: SparsePoints) -> list[DepthView]:
    """A few, evenly chosen among those with points, in the order of the frames."""
    seen = [index for index in points.observations[:, 0].unique().tolist() if frames[index].depth_path]
    chosen = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, _FRAMES).astype(int))] if seen else []
    return [_view(frames, i, points.xyz[points.observations[points.observations[:, 0] == i, 1]]) for i in chosen]


def _view(frames: tuple[Frame, ...], index: int, xyz: Tensor) -> DepthView:
    frame = frames[index]
    T_cam_map = invert(frame.T_map_cam)
    cam = (xyz @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]).numpy()
    cam = cam[cam[:, 2] > 0]
    image = read_depth(frame)
    pixels = frame.camera.resized(*image.shape[::-1]).pixels_of(cam) if len(cam) else np.zeros((0, 2))
    return DepthView(frames, index, image, pixels, cam[:, 2], np.linalg.norm(cam, axis=1) / cam[:, 2])
