from dataclasses import replace

import pytest
import torch

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.scene import SceneNormalisation

# The scene's x axis is the map's y; its origin is at (10, 20, 30).
T_MAP_SCENE = torch.tensor([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]], dtype=torch.float64)
SCENE = SceneNormalisation(T_MAP_SCENE, scene_unit_m=4.0, pose_unit_m=2.0, near_m=0.5, far_m=9.0,
                           bounds=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))


def test_points_by_hand():
    x_map = torch.tensor([10.0, 28.0, 34.0])  # 8 m along the scene's x, 4 m along its z
    x_scene = SCENE.points_to_scene(x_map)
    torch.testing.assert_close(x_scene, torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(SCENE.points_to_map(x_scene), x_map.double())


def test_poses_by_hand():
    T_map_cam = torch.eye(4, dtype=torch.float64)
    T_map_cam[:3, 3] = torch.tensor([10.0, 28.0, 34.0])
    T_scene_cam = SCENE.pose_to_scene(T_map_cam)
    torch.testing.assert_close(T_scene_cam, torch.tensor(
        [[0, 1, 0, 4], [-1, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]], dtype=torch.float64))


def test_round_trips_in_batches():
    generator = torch.Generator().manual_seed(0)
    T_map_cam = se3_exp(2 * torch.randn(3, 5, 6, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(SCENE.pose_to_map(SCENE.pose_to_scene(T_map_cam)), T_map_cam)
    points = torch.randn(3, 5, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(SCENE.points_to_map(SCENE.points_to_scene(points)), points)


def test_a_point_seen_by_a_camera_is_the_same_in_both_frames():
    generator = torch.Generator().manual_seed(1)
    T_map_cam = se3_exp(torch.randn(6, generator=generator, dtype=torch.float64))
    x_cam = torch.randn(3, generator=generator, dtype=torch.float64)
    T_scene_cam = SCENE.pose_to_scene(T_map_cam)
    x_scene_m = T_scene_cam[:3, :3] @ x_cam + T_scene_cam[:3, 3] * SCENE.pose_unit_m
    x_map = T_map_cam[:3, :3] @ x_cam + T_map_cam[:3, 3]
    torch.testing.assert_close(SCENE.points_to_scene(x_map) * SCENE.scene_unit_m, x_scene_m)


@pytest.mark.parametrize('change, complaint', [
    ({'T_map_scene': 2 * T_MAP_SCENE}, 'not a rotation'),
    ({'near_m': 9.0}, 'near_m 9.0 must be less than far_m 9.0'),
    ({'bounds': torch.ones(2, 3)}, 'the lowest, then the highest corner')])
def test_what_is_no_normalisation_is_refused(change, complaint):
    with pytest.raises(AprlocError, match=complaint):
        replace(SCENE, **change)
