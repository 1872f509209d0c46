"""Augmentation that keeps pose and image consistent: exposure, colour, turns about the camera centre, what stands in the way."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import so3_exp


def jitter_colours(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Random gain, gamma and colour balance per image. [B, 3, H, W] in [0, 1] -> the same."""
    def around_one(channels, spread):
        u = torch.rand(len(images), channels, 1, 1, generator=generator, device=images.device)
        return torch.exp((2 * u - 1) * spread * strength)
    return ((images.clamp_min(1e-4) ** around_one(1, 0.3)) * around_one(1, 0.4) * around_one(3, 0.08)).clamp(0, 1)


def random_rotations(count: int, limit_deg: float, generator: torch.Generator) -> Tensor:
    """R_cam_new of up to limit_deg about each axis, [count, 3, 3] float64."""
    u = torch.rand(count, 3, generator=generator, device=generator.device).double()
    return so3_exp((2 * u - 1) * math.radians(limit_deg))


def rotate_views(images: Tensor, camera: Camera, R_cam_new: Tensor, zoom: Tensor | None = None) -> Tensor:
    """What the camera would have seen had it been turned, and zoomed: an exact homography, as the centre stays.

    images [B, 3, H, W], R_cam_new [B, 3, 3] float64, zoom [B] float64 (factor on the focal lengths) -> [B, 3, H, W];
    what was not in the image is mirrored in.
    """
    # In double precision, which autocast leaves alone: bfloat16 would be off by pixels.
    directions = camera.directions().to(R_cam_new).view(-1, 3)
    if zoom is not None:
        directions = directions / torch.stack([zoom, zoom, torch.ones_like(zoom)], -1).unsqueeze(1)
    turned = directions @ R_cam_new.transpose(-1, -2)          # [B, H * W, 3], in the old camera
    turned = (turned / turned[..., 2:].clamp_min(1e-3)).to(images)
    u = turned[..., 0] * camera.fx + camera.cx
    v = turned[..., 1] * camera.fy + camera.cy
    grid = torch.stack([(2 * u + 1) / camera.width - 1, (2 * v + 1) / camera.height - 1], -1)
    return F.grid_sample(images, grid.view(len(images), camera.height, camera.width, 2), mode='bilinear',
                         padding_mode='reflection', align_corners=False)


def cover(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Something in front of the camera: a rectangle of up to that share of the area, on every other image.

    Half of the rectangles have one colour, half show the batch's next image, mirrored.
    images [B, 3, H, W] in [0, 1] -> the same, and which pixels still show the place, [B, H, W] bool.
    """
    count, _, height, width = images.shape
    random = torch.rand(9, count, generator=generator, device=images.device)
    area = torch.where(random[0] < 0.5, share * random[1], 0.0)
    aspect = torch.exp(1.4 * random[2] - 0.7)
    h, w = (area * aspect).sqrt().clamp_max(1.0) * height, (area / aspect).sqrt().clamp_max(1.0) * width
    top, left = (random[3] * (height - h)).view(-1, 1, 1), (random[4] * (width - w)).view(-1, 1, 1)
    y = torch.arange(height, device=images.device).view(1, -1, 1)
    x = torch.arange(width, device=images.device).view(1, 1, -1)
    covered = (y >= top) & (y < top + h.view(-1, 1, 1)) & (x >= left) & (x < left + w.view(-1, 1, 1))
    colour = random[5:8].T.view(count, 3, 1, 1)
    front = torch.where((random[8] < 0.5).view(-1, 1, 1, 1), colour, images.roll(1, 0).flip(-1))
    return torch.where(covered.unsqueeze(1), front, images), ~covered


def degrade(images: Tensor, blur_px: float, noise: float, generator: torch.Generator) -> Tensor:
    """Random blur along a random direction (motion) or in all (focus), and noise. [B, 3, H, W] in [0, 1] -> the same.

    blur_px: greatest standard deviation in pixels; noise: greatest standard deviation of the noise.
    """
    count, device = len(images), images.device
    random = torch.rand(4, count, generator=generator, device=device)
    major = (blur_px * random[0]).clamp_min(1e-3)
    minor = torch.where(random[1] < 0.5, major, torch.full_like(major, 1e-3)).clamp_min(0.3)
    angle = math.pi * random[2]
    radius = math.ceil(2 * blur_px)
    steps = torch.arange(-radius, radius + 1, device=device).float()
    y, x = torch.meshgrid(steps, steps, indexing='ij')
    along = x * angle.cos().view(-1, 1, 1) + y * angle.sin().view(-1, 1, 1)
    across = y * angle.cos().view(-1, 1, 1) - x * angle.sin().view(-1, 1, 1)
    kernel = torch.exp(-((along / major.clamp_min(0.3).view(-1, 1, 1)).square()
                         + (across / minor.view(-1, 1, 1)).square()) / 2)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    padded = F.pad(images, (radius,) * 4, mode='reflect').flatten(0, 1)
    # A group for each channel: on a CPU much quicker than groups of three.
    each = kernel.repeat_interleave(images.shape[1], 0).unsqueeze(1)
    blurred = F.conv2d(padded[None], each, groups=len(each)).view(images.shape)
    grain = torch.randn(images.shape, generator=generator, device=device)
    return (blurred + noise * random[3].view(-1, 1, 1, 1) * grain).clamp(0, 1)
