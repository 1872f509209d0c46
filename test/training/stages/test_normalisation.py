"""Near, far, bounds and units from a cloud of known depths, and their behaviour under a change of the map's frame."""

import pytest
import torch

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.training.stages.normalisation import derive
from aprloc_ros.training.structure.depths import SparseDepths

FLOAT = torch.float64


def make_capture(count: int = 400):
    """Five cameras on the x axis that look along z, and points in the box 4 x 2 x 6 before them."""
    T_map_cam = torch.eye(4, dtype=FLOAT).repeat(5, 1, 1)
    T_map_cam[:, 0, 3] = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    xyz = torch.rand(5 * count, 3, generator=torch.Generator().manual_seed(0), dtype=FLOAT)
    xyz = torch.tensor([-2.0, -1.0, 2.0]) + xyz * torch.tensor([4.0, 2.0, 6.0])
    frame = torch.arange(5).repeat_interleave(count)
    return T_map_cam, SparseDepths(frame, xyz, xyz[:, 2].clone())


def transformed(T_map_cam, depths, scale: float, T_new_map):
    poses, xyz = T_map_cam.clone(), scale * depths.xyz
    poses[:, :3, 3] *= scale
    return T_new_map @ poses, SparseDepths(depths.frame, xyz @ T_new_map[:3, :3].T + T_new_map[:3, 3],
                                           scale * depths.depth_m)


def test_the_numbers_of_a_known_cloud():
    scene = derive(*make_capture())
    torch.testing.assert_close(scene.T_map_scene, torch.eye(4, dtype=FLOAT))
    assert scene.pose_unit_m == pytest.approx(2 ** 0.5)        # RMS of -2, -1, 0, 1, 2
    assert scene.near_m == pytest.approx(0.6 * 2.06, abs=0.03)     # depths are uniform from 2 to 8
    assert scene.far_m == pytest.approx(1.25 * 7.94, abs=0.05)
    box = scene.bounds * scene.scene_unit_m
    # x: the cameras; y: the points; z: from the cameras' plane to the farthest points; a margin of 0.1 * 8 around.
    torch.testing.assert_close(box, torch.tensor([[-2.8, -1.8, -0.8], [2.8, 1.8, 8.8]], dtype=FLOAT), atol=0.1, rtol=0)
    assert scene.scene_unit_m == pytest.approx((box[1] - box[0]).max().item() / 2)


def test_cameras_and_points_lie_within_the_bounds_and_depths_between_near_and_far():
    T_map_cam, depths = make_capture()
    scene = derive(T_map_cam, depths)
    points = torch.cat([scene.points_to_scene(depths.xyz), scene.points_to_scene(T_map_cam[:, :3, 3])])
    assert ((points > scene.bounds[0]) & (points < scene.bounds[1])).all()
    assert scene.near_m < depths.depth_m.min() and depths.depth_m.max() < scene.far_m


@pytest.mark.parametrize('seed', range(3))
def test_a_rigid_motion_moves_the_frame_and_nothing_else(seed):
    capture = make_capture()
    T = se3_exp(5 * torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=FLOAT))
    before, after = derive(*capture), derive(*transformed(*capture, 1.0, T))
    torch.testing.assert_close(after.T_map_scene, T @ before.T_map_scene)
    for name in ('scene_unit_m', 'pose_unit_m', 'near_m', 'far_m'):
        assert getattr(after, name) == pytest.approx(getattr(before, name))
    torch.testing.assert_close(after.bounds, before.bounds)


@pytest.mark.parametrize('scale', [0.01, 37.0])
def test_a_scaled_capture_has_the_same_scene_in_other_units(scale):
    capture = make_capture()
    before, after = derive(*capture), derive(*transformed(*capture, scale, torch.eye(4, dtype=FLOAT)))
    for name in ('scene_unit_m', 'pose_unit_m', 'near_m', 'far_m'):
        assert getattr(after, name) == pytest.approx(scale * getattr(before, name))
    assert after.near == pytest.approx(before.near) and after.far == pytest.approx(before.far)
    torch.testing.assert_close(after.bounds, before.bounds)
    torch.testing.assert_close(after.points_to_scene(scale * capture[1].xyz), before.points_to_scene(capture[1].xyz))


@pytest.mark.parametrize('scale', [1e-6, 1e7])
def test_lengths_that_no_map_can_have_are_told_before_anything_is_trained(scale):
    with pytest.raises(AprlocError, match='in which unit are the positions'):
        derive(*transformed(*make_capture(), scale, torch.eye(4, dtype=FLOAT)))


def test_stray_points_do_not_blow_up_the_scene():
    T_map_cam, depths = make_capture()
    before = derive(T_map_cam, depths)
    stray = torch.tensor([[0.0, 0.0, 5000.0]], dtype=FLOAT)
    after = derive(T_map_cam, SparseDepths(torch.cat([depths.frame, torch.tensor([0])]),
                                           torch.cat([depths.xyz, stray]), torch.cat([depths.depth_m, stray[:, 2]])))
    assert after.far_m == pytest.approx(before.far_m, rel=0.01)
    assert after.scene_unit_m == pytest.approx(before.scene_unit_m, rel=0.01)


def test_a_camera_that_stands_still_still_has_a_unit():
    _, depths = make_capture()
    scene = derive(torch.eye(4, dtype=FLOAT).repeat(5, 1, 1), depths)
    assert scene.pose_unit_m == pytest.approx(1e-3)
