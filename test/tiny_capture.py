"""A capture of a textured wall that is written in milliseconds, and settings that build a map of it in seconds."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import yaml

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import GL_FROM_CV

CAMERA = Camera(48, 36, 40.0, 40.0, 23.5, 17.5)
DEPTH_UNIT_M = 1e-4
TRAIN, TEST = 24, 4
_TEXEL_M = 0.02
SETTINGS = {
    'field': {'arguments': {'plane_sizes': [8], 'grid_size': 4, 'proposal_size': 4, 'features': 2, 'hidden': 8,
                            'coarse_samples': 8, 'fine_samples': 4, 'feature_channels': 4, 'fusion_hidden': 4},
              'steps': 10, 'rays': 64, 'depth_rays': 16, 'short_side': 24},
    'regressor': {'kind': 'dfnet', 'learning_rate': 1e-3,
                  'arguments': {'backbone': 'mobilenet_v2', 'width': 0.25, 'feature_hidden': 4, 'feature_channels': 4},
                  'steps': 8, 'batch': 4, 'short_side': 32, 'synthetic_short_side': 16, 'rvs_views': 4,
                  'rvs_refresh_epochs': 1, 'validate_every': 3},
    'descriptors': {'arguments': {'width': 0.34, 'coarse_channels': 8, 'fine_channels': 4}, 'steps': 8, 'points': 32,
                    'short_side': 32, 'blur_px': 0.5},
    'features': {'steps': 4, 'images': 2, 'rays': 32, 'crops': 1, 'crop_side': 6}}


def wall_pose(index: int) -> np.ndarray:
    """T_map_cam of a camera about two metres before the wall z = 0, which it looks at (its axes are the map's)."""
    angle = 0.1 * math.sin(index)
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0]
    T[:3, 3] = 0.05 * index - 0.6, 0.1 * math.cos(index), -2 - 0.1 * math.sin(0.7 * index)
    return T


def wall_view(T_map_cam: np.ndarray, texture: np.ndarray, camera: Camera = CAMERA) -> tuple[np.ndarray, np.ndarray]:
    """Image [H, W, 3] uint8 and depth [H, W] m, by intersecting every pixel's ray with z = 0."""
    rays = camera.directions().double().numpy() @ T_map_cam[:3, :3].T
    depth = -T_map_cam[2, 3] / rays[..., 2]
    points = T_map_cam[:3, 3] + depth[..., None] * rays
    u, v = (points[..., i].astype(np.float32) / _TEXEL_M + texture.shape[1 - i] / 2 for i in (0, 1))
    return cv2.remap(texture, u, v, cv2.INTER_LINEAR), depth


def write_wall(directory: Path, with_depth: bool = True, late: float = 0.0, camera: Camera = CAMERA) -> Path:
    """transforms.json with a video of TRAIN frames for training and TEST frames for the score; late: of another drive."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    texture = cv2.resize(noise, (256, 256), interpolation=cv2.INTER_CUBIC)
    frames = []
    for i in range(TRAIN + TEST):
        T = wall_pose(late + (i if i < TRAIN else i - TRAIN + 0.5))
        image, depth = wall_view(T, texture, camera)
        name = f'{"train" if i < TRAIN else "test"}/{i:02d}'
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(directory / f'{name}.png'), image[..., ::-1])
        entry = {'file_path': f'{name}.png', 'timestamp': i / 10, 'transform_matrix': (T @ GL_FROM_CV.numpy()).tolist()}
        if with_depth:
            cv2.imwrite(str(directory / f'{name}_depth.png'), np.round(depth / DEPTH_UNIT_M).astype(np.uint16))
            entry['depth_file_path'] = f'{name}_depth.png'
        frames.append(entry)
    names = [frame['file_path'] for frame in frames]
    (directory / 'transforms.json').write_text(json.dumps({
        'w': camera.width, 'h': camera.height, 'fl_x': camera.fx, 'fl_y': camera.fy, 'cx': camera.cx + 0.5,
        'cy': camera.cy + 0.5, 'depth_unit_scale_factor': DEPTH_UNIT_M, 'frames': frames,
        'train_filenames': names[:TRAIN], 'test_filenames': names[TRAIN:]}))
    return directory


def write_settings(path: Path, **changes: dict) -> Path:
    """SETTINGS as a YAML file; changes: field={...}, regressor={...} and so on, laid over them."""
    keys = dict.fromkeys((*SETTINGS, *changes))
    path.write_text(yaml.safe_dump({key: {**SETTINGS.get(key, {}), **changes.get(key, {})} for key in keys}))
    return path
