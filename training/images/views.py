"""Training views: rectified images of one size with their poses and luminance histograms, in memory."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.histogram import luminance_histogram
from aprloc_ros.lens import Lens, found_camera
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.sizes import main_frames
from aprloc_ros.training.images.masks import moving_pixels


@dataclass(frozen=True)
class Views:
    """N images seen by one pinhole camera."""

    camera: Camera
    images: Tensor        # [N, 3, H, W] uint8
    seen: Tensor          # [N, H, W] bool: False where rectification left a pixel without data
    histograms: Tensor    # [N, 10]
    T_map_cam: Tensor     # [N, 4, 4] float64

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index) -> 'Views':
        return Views(self.camera, self.images[index], self.seen[index], self.histograms[index], self.T_map_cam[index])

    def to(self, device) -> 'Views':
        return replace(self, images=self.images.to(device), seen=self.seen.to(device),
                       histograms=self.histograms.to(device), T_map_cam=self.T_map_cam.to(device))


def with_lenses(frames: tuple[Frame, ...], lenses: tuple[Lens, ...]) -> tuple[Frame, ...]:
    """The frames with what is known of their cameras."""
    return tuple(replace(frame, camera=found_camera(frame.camera, lenses)) for frame in frames)


def common_camera(frames: tuple[Frame, ...], short_side: int) -> Camera:
    """The pinhole camera of the median intrinsics of the frames whose shape most have, its shorter side `short_side`
    pixels (never enlarged). Frames of another shape are seen where they overlap with it.
    """
    alike = main_frames(frames)
    first = alike[0].camera
    short_side = min(short_side, first.width, first.height)
    cameras = [f.camera.without_distortion().resized(first.width, first.height) for f in alike]
    middle = {key: float(np.median([getattr(c, key) for c in cameras])) for key in ('fx', 'fy', 'cx', 'cy')}
    return replace(cameras[0], **middle).with_short_side(short_side)


def load_views(frames: tuple[Frame, ...], camera: Camera) -> Views:
    """Read, undistort and resize the images of `frames` to `camera`."""
    images = np.stack([warp_image(f.read_image(), f.camera, camera) for f in frames])
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    masks = {c: _seen(c, camera) for c in {f.camera for f in frames}}
    histograms = torch.cat([luminance_histogram(part.float() / 255) for part in images.split(64)])
    return Views(camera, images, torch.stack([masks[f.camera] & ~moving_pixels(f, camera) for f in frames]), histograms,
                 torch.stack([f.T_map_cam for f in frames]))


def _seen(source: Camera, target: Camera) -> Tensor:
    white = np.full((source.height, source.width, 3), 255, np.uint8)
    return torch.from_numpy(warp_image(white, source, target)[..., 0] > 250)
