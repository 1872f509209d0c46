"""Two walls that meet in an edge, with a texture that is known everywhere, and exact photographs of them."""

import cv2
import numpy as np
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import pose, so3_exp
from aprloc_ros.patches import SIDE, Patches

CAMERA = Camera(320, 240, 260.0, 262.0, 158.7, 121.3)
BARREL = Camera(320, 240, 260.0, 262.0, 158.7, 121.3, 'opencv', (-0.2, 0.05, 0.001, -0.002))
SLOPES = 0.5, -0.3      # of z by x, right and left of the edge
EDGE_M = 4.0

_RNG = np.random.default_rng(5)
_WAVES = _RNG.normal(size=(3, 16)) * 22.0   # radians per metre: 20 pixels a wave, some 8
_PHASES = _RNG.uniform(0, 2 * np.pi, 16)


def texture(xyz):
    """[..., 3] m -> [...] luminance."""
    return 128 + 20 * np.sin(xyz @ _WAVES + _PHASES).sum(-1).clip(-5, 5)


def wall_z(x):
    return EDGE_M + np.maximum(SLOPES[0] * x, SLOPES[1] * x)


def near(seed=0, far=0.1):
    """T_map_cam [4, 4] that looks at the edge."""
    xi = far * torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return pose(so3_exp(0.5 * xi[3:]), xi[:3])


def photograph(T_map_cam, camera=CAMERA, gain=1.0, bias=0.0):
    """[H, W, 3] uint8: each pixel the mean of four rays."""
    T = T_map_cam.numpy()
    v, u = np.meshgrid(*(np.arange(2 * side) / 2 - 0.25 for side in (camera.height, camera.width)), indexing='ij')
    pixels = np.stack([u, v], -1).reshape(-1, 1, 2)
    flat = cv2.undistortPoints(pixels, camera.matrix, np.array(camera.distortion or (0.0,) * 4))[:, 0]
    rays = np.concatenate([flat, np.ones((len(flat), 1))], 1) @ T[:3, :3].T
    eye = T[:3, 3]
    t = np.max([(EDGE_M + s * eye[0] - eye[2]) / (rays[:, 2] - s * rays[:, 0]) for s in SLOPES], 0)
    light = texture(eye + t[:, None] * rays).reshape(camera.height, 2, camera.width, 2).mean((1, 3))
    return np.repeat((gain * light + bias).round().clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def walls(count=300, pixel_m=0.015, seed=3):
    """Patches that are exactly on the walls."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.15, 1.7, count) * rng.choice([-1, 1], count)
    centre = np.stack([x, rng.uniform(-1.3, 1.3, count), wall_z(x)], 1)
    slope = np.where(x > 0, *SLOPES)
    right = np.stack([np.ones(count), np.zeros(count), slope], 1) * pixel_m
    steps = np.stack([right, np.tile([0, pixel_m, 0], (count, 1))], 1)
    span = np.arange(SIDE) - (SIDE - 1) / 2
    at = (centre[:, None, None] + span[None, None, :, None] * steps[:, None, None, 0] + span[None, :, None, None] * steps[:, None, None, 1])
    return Patches(torch.arange(count), torch.from_numpy(centre), torch.from_numpy(steps).float(),
                   torch.from_numpy(texture(at).round().astype(np.uint8)), torch.zeros(count, dtype=torch.int64))
