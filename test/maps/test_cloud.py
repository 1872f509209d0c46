"""Points and cameras of a map, against a field whose surface is known: a coloured wall."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from aprloc_ros.camera import Camera
from aprloc_ros.fields.field import Field
from aprloc_ros.fields.rendering import Samples
from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.viewing.cloud import EVEN_EXPOSURE, RAYS, cloud_parts, evenly, frustum_lines, join, map_cloud

CAMERA = Camera(64, 48, 60.0, 55.0, 30.0, 25.0)
SCENE = SceneNormalisation(se3_exp(torch.tensor([3.0, -1.0, 0.5, 0.2, -0.4, 1.0], dtype=torch.float64)), 4.0, 2.0, 0.5,
                           12.0, torch.tensor([[-2.0, -2.0, -2.0], [2.0, 2.0, 2.0]], dtype=torch.float64))
WALL_Z = 1.25   # scene units: the wall is the plane z = WALL_Z, there where x < 0.5


class Wall(Field):
    """Opaque behind z = WALL_Z; red by x and green by y; as bright as the histogram's last bin says."""

    coarse_samples, fine_samples = 400, 0

    def __init__(self, density=1000.0):
        super().__init__()
        self.density = nn.Parameter(torch.tensor(density))

    def fine(self, points, directions, histogram, *, transient, features=False):
        inside = (points[..., 2] > WALL_Z) & (points[..., 0] < 0.5)
        blue = histogram[:, -1:].expand(points.shape[:2])
        rgb = torch.stack([points[..., 0] + 0.5, points[..., 1] + 0.5, blue], -1).clamp(0, 1)
        return Samples(inside * self.density, rgb)


def poses(count):
    """Views at scene depth 0 onto the wall, in the map frame: [count, 4, 4]."""
    generator = torch.Generator().manual_seed(1)
    xi = 0.1 * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return SCENE.T_map_scene @ se3_exp(xi)


def test_the_points_lie_on_the_wall_in_the_map_frame_with_its_colours():
    cloud = map_cloud(Wall(), SCENE, CAMERA, poses(10), rays=3000)
    assert cloud.xyz.dtype == torch.float64 and cloud.rgb.dtype == torch.uint8
    assert 2000 < len(cloud.xyz) == len(cloud.rgb) <= 3000
    x, y, z = SCENE.points_to_scene(cloud.xyz).unbind(-1)
    sample = (SCENE.far - SCENE.near) / Wall.coarse_samples
    torch.testing.assert_close(z, torch.full_like(z, WALL_Z), atol=2 * sample, rtol=0)
    red, green, blue = (cloud.rgb.double() / 255).unbind(-1)
    torch.testing.assert_close(red, (x + 0.5).clamp(0, 1), atol=0.02, rtol=0)
    torch.testing.assert_close(green, (y + 0.5).clamp(0, 1), atol=0.02, rtol=0)
    torch.testing.assert_close(blue, torch.full_like(blue, 0.1), atol=0.003, rtol=0)


def test_every_point_is_seen_by_a_view_and_nothing_is_put_where_the_light_goes_on():
    views = poses(5)
    cloud = map_cloud(Wall(), SCENE, CAMERA, views, rays=2000)
    seen = torch.stack([CAMERA.project(cloud.xyz.double() @ T[:3, :3].T + T[:3, 3])[1] for T in map(invert, views)])
    assert seen.any(0).all()
    assert SCENE.points_to_scene(cloud.xyz)[:, 0].max() < 0.52
    assert len(map_cloud(Wall(density=0.0), SCENE, CAMERA, views, rays=500).xyz) == 0


def test_fog_gives_no_points():
    assert len(map_cloud(Wall(density=3.0), SCENE, CAMERA, poses(5), rays=500).xyz) == 0


def test_the_exposure_is_that_of_the_histogram():
    histogram = torch.zeros(10)
    histogram[-1] = 1.0
    assert (map_cloud(Wall(), SCENE, CAMERA, poses(3), histogram, rays=100).rgb[:, 2] == 255).all()


def test_the_cloud_is_repeatable_and_the_sum_of_its_parts():
    views = poses(7)
    first, second = (map_cloud(Wall(), SCENE, CAMERA, views, rays=700) for _ in range(2))
    assert torch.equal(first.xyz, second.xyz)
    parts = list(cloud_parts(Wall(), SCENE, CAMERA, views, EVEN_EXPOSURE, 700))
    assert len(parts) == 7 and torch.equal(join(parts).xyz, first.xyz)
    assert not torch.equal(first.xyz, map_cloud(Wall(), SCENE, CAMERA, views, rays=700, seed=1).xyz)


def test_many_views_cost_no_more_rays():
    parts = list(cloud_parts(Wall(), SCENE, CAMERA, poses(1000), rays=240))
    assert len(parts) == 120 and sum(len(part.xyz) for part in parts) <= 240
    assert RAYS <= 100_000


def test_evenly_keeps_both_ends():
    items = torch.arange(1000)
    chosen = evenly(items, 7)
    assert len(chosen) == 7 and chosen[0] == 0 and chosen[-1] == 999
    assert torch.equal(evenly(items[:5], 7), items[:5])
    assert len(join([]).xyz) == 0


def test_frusta_are_the_cameras_corners():
    depth_m, views = 0.7, poses(3)
    lines = frustum_lines(CAMERA, views, depth_m)
    assert lines.shape == (3, 16, 3)
    for T, ends in zip(views, lines.double().numpy(), strict=True):
        T_cam_map = invert(T).numpy()
        in_camera = ends @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]
        assert np.allclose(in_camera[[0, 2, 4, 6]], 0, atol=1e-5)          # four lines from the centre
        corners = in_camera[[1, 3, 5, 7]]
        assert np.allclose(corners[:, 2], depth_m, atol=1e-5)
        pixels = cv2.projectPoints(corners, np.zeros(3), np.zeros(3), CAMERA.matrix, None)[0][:, 0]
        assert np.allclose(pixels, [(-0.5, -0.5), (63.5, -0.5), (63.5, 47.5), (-0.5, 47.5)], atol=1e-3)
        pairs = {tuple(sorted((np.abs(corners - a).sum(1).argmin(), np.abs(corners - b).sum(1).argmin())))
                 for a, b in in_camera[8:].reshape(4, 2, 3)}
        assert pairs == {(0, 1), (1, 2), (2, 3), (0, 3)}                   # four lines around the image


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason='no CUDA'))])
def test_the_result_is_on_the_cpu_wherever_the_field_is(device):
    cloud = map_cloud(Wall().to(device), SCENE, CAMERA, poses(2), rays=50)
    assert cloud.xyz.device.type == cloud.rgb.device.type == 'cpu' and math.isfinite(cloud.xyz.sum())
