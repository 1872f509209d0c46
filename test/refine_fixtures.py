"""A wavy wall whose colours and features are known functions of the place, and queries that were taken in front of it."""

import torch
from field_fixtures import Analytic

from aprloc_ros.camera import Camera
from aprloc_ros.fields.views import render_features
from aprloc_ros.geometry import se3_exp
from aprloc_ros.refinement.refined import Query
from aprloc_ros.scene import SceneNormalisation

CAMERA = Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
HISTOGRAM = torch.full((10,), 0.1)
CHANNELS = 16
SCENE = SceneNormalisation(
    se3_exp(torch.tensor([30.0, -12.0, 4.0, 0.2, -0.4, 1.0], dtype=torch.float64)), scene_unit_m=2.0, pose_unit_m=3.0,
    near_m=0.5, far_m=6.0, bounds=torch.tensor([[-2.0, -2.0, 0.0], [2.0, 2.0, 3.0]]))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def waves(count, frequencies, seed):
    """Smooth functions of points in scene units: [..., 3] -> [..., count]."""
    direction = torch.nn.functional.normalize(torch.randn(3, count, generator=seeded(seed)), dim=0)
    phase = 6.3 * torch.rand(count, generator=seeded(seed + 1))
    frequency = torch.linspace(*frequencies, count)
    return lambda points: torch.sin(points @ (direction * frequency) + phase)


def wavy_density(points):
    """Behind z = 1.2 and some: opaque within a few millimetres."""
    surface = 1.2 + 0.25 * torch.sin(2.1 * points[..., 0]) * torch.cos(1.7 * points[..., 1] + 0.4)
    return 200 * torch.sigmoid((points[..., 2] - surface) / 0.01)


def wavy_wall(coarse_samples=48, fine_samples=24, frequencies=(2.0, 14.0)):
    colour = waves(3, (4.0, 9.0), 7)
    return Analytic(wavy_density, lambda points: 0.5 + 0.4 * colour(points), coarse_samples, fine_samples,
                    waves(CHANNELS, frequencies, 3)).eval().requires_grad_(False)


def true_pose():
    T_scene_cam = se3_exp(torch.tensor([0.1, -0.2, 0.15, 0.05, -0.1, 0.2], dtype=torch.float64))
    return SCENE.T_map_scene @ T_scene_cam


def moved(T, metres, degrees, seed=0):
    """T, moved and turned by so much in random directions; [4, 4]."""
    direction = torch.nn.functional.normalize(torch.randn(2, 3, generator=seeded(seed), dtype=torch.float64), dim=1)
    return T @ se3_exp(torch.cat([metres * direction[0], torch.deg2rad(torch.tensor(degrees)) * direction[1]]))


def query_of(field, T, camera=CAMERA):
    """What the camera sees at T, and its exact feature map [1, C, H, W] of the image's size."""
    with torch.no_grad():
        view = render_features(field, SCENE, camera, T, HISTOGRAM)
    return Query(view.rgb, camera, HISTOGRAM), view.features[None]
