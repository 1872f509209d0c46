"""Turned cameras against a pattern at infinity, and points projected before and after."""

import pytest
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import invert, pose_errors, se3_exp, so3_exp
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.augmentation import cover, jitter_colours, random_rotations, rotate_views
from aprloc_ros.training.stages.regressor import RegressorTraining, ViewSource

CAMERA = Camera(80, 60, 70.0, 75.0, 41.3, 27.9)
SCENE = SceneNormalisation(se3_exp(torch.tensor([1.0, -2.0, 0.5, 0.4, 0.1, -0.7]).double()), 4.0, 2.0, 0.5, 20.0,
                           torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))


def sky(R_map_cam: torch.Tensor) -> torch.Tensor:
    """[3, H, W]: what a camera sees of smooth waves on the sphere of directions."""
    d = torch.nn.functional.normalize(CAMERA.directions().double() @ R_map_cam.T, dim=-1)
    waves = [0.5 + 0.4 * torch.sin(7 * d[..., i] + 5 * d[..., (i + 1) % 3]) for i in range(3)]
    return torch.stack(waves).float()


def inside(R_cam_new: torch.Tensor) -> torch.Tensor:
    """[H, W]: which pixels of the turned camera lie between pixel centres of the old image."""
    u, v = CAMERA.project(CAMERA.directions().double() @ R_cam_new.T)[0].unbind(-1)
    return (u >= 0) & (u <= CAMERA.width - 1) & (v >= 0) & (v <= CAMERA.height - 1)


def test_a_turned_view_is_what_the_turned_camera_sees():
    R_map_cam = so3_exp(torch.tensor([[0.2, -0.5, 0.1], [1.0, 0.3, -0.8]]).double())
    R_cam_new = so3_exp(torch.tensor([[0.06, -0.1, 0.08], [-0.03, 0.12, -0.2]]).double())
    turned = rotate_views(torch.stack([sky(R) for R in R_map_cam]), CAMERA, R_cam_new)
    for image, R_old, R in zip(turned, R_map_cam, R_cam_new):
        seen = inside(R)
        assert 0.6 < seen.float().mean() < 1
        assert (image - sky(R_old @ R)).abs()[:, seen].max() < 0.006
        assert (image - sky(R_old @ R.T)).abs()[:, seen].max() > 0.1


def test_no_turn_changes_nothing_and_the_unseen_is_filled():
    image = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotate_views(image, CAMERA, torch.eye(3).double()[None]), image, atol=1e-4, rtol=0)
    far = rotate_views(0.5 + 0.5 * image, CAMERA, so3_exp(torch.tensor([[0.3, 0.4, 0.0]]).double()))
    assert far.min() >= 0.5 - 1e-5


def test_rotations_are_within_the_limit_about_each_axis():
    R = random_rotations(500, 6.0, torch.Generator().manual_seed(0))
    angle = pose_errors(*(torch.cat([torch.cat([r, torch.zeros(500, 3, 1).double()], -1),
                                     torch.tensor([0.0, 0, 0, 1]).double().expand(500, 1, 4)], 1)
                          for r in (R, torch.eye(3).double().expand(500, 3, 3))))[1]
    assert angle.max() <= 6.0 * 3 ** 0.5 + 1e-6 and angle.max() > 7
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double().expand(500, 3, 3))
    assert torch.equal(R, random_rotations(500, 6.0, torch.Generator().manual_seed(0)))


def test_something_in_front_hides_a_share_of_every_other_image_and_says_which_pixels():
    images = torch.rand(400, 3, 30, 40, generator=torch.Generator().manual_seed(0))
    covered, clear = cover(images, 0.4, torch.Generator().manual_seed(1))
    assert torch.equal(torch.where(clear.unsqueeze(1), covered, 0), torch.where(clear.unsqueeze(1), images, 0))
    hidden = 1 - clear.float().mean((1, 2))
    assert 0.4 < (hidden > 0).float().mean() < 0.6 and hidden.max() < 0.5 and hidden[hidden > 0].mean() > 0.12
    differs = (covered != images).any(1)
    assert (differs & ~clear).float().sum() > 0.95 * (~clear).float().sum()
    same, whole = cover(images, 0.0, torch.Generator().manual_seed(1))
    assert torch.equal(same, images) and whole.all()


def test_jittered_colours_stay_in_range_and_keep_the_order_of_brightness():
    ramp = torch.linspace(0, 1, 50).expand(6, 3, 4, 50)
    changed = jitter_colours(ramp, 1.0, torch.Generator().manual_seed(0))
    assert changed.min() >= 0 and changed.max() <= 1
    assert (changed.diff(dim=-1) >= 0).all()
    assert changed[:, :, 0, 25].std() > 0.02     # images and channels differ
    torch.testing.assert_close(jitter_colours(ramp, 0.0, torch.Generator()), ramp.clamp_min(1e-4))


def batch_of_dots(turn, seed: int = 0):
    """Views of one far point as a bright dot; the batch of all of them with the pixel of each dot."""
    T_map_cam = se3_exp(torch.tensor([[0.1, 0.2, 0.0, 0.02, 0.1, 0.0], [0.3, -0.1, 0.1, -0.05, -0.1, 0.1]]).double())
    point = torch.tensor([30.0, -20.0, 400.0], dtype=torch.float64)
    v, u = torch.meshgrid(torch.arange(60), torch.arange(80), indexing='ij')
    images = []
    for T in T_map_cam:
        (pu, pv), seen = CAMERA.project(invert(T)[:3, :3] @ point + invert(T)[:3, 3])
        assert seen
        images.append((255 * torch.exp(-((u - pu) ** 2 + (v - pv) ** 2) / 8)).byte().expand(3, 60, 80))
    source = ViewSource(torch.stack(images), T_map_cam, CAMERA, SCENE, RegressorTraining(steps=1))
    return point, *source.batch(torch.tensor([0, 1]), turn, torch.Generator().manual_seed(seed))


def dot_pixel(image: torch.Tensor) -> torch.Tensor:
    """Centre of mass (u, v)."""
    v, u = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing='ij')
    return torch.stack([(u * image[0]).sum(), (v * image[0]).sum()]) / image[0].sum()


@pytest.mark.parametrize('turn', [None, so3_exp(torch.tensor([[0.05, -0.06, 0.1], [-0.08, 0.04, -0.1]]).double())])
def test_a_batch_turns_pose_and_image_alike(turn):
    point, images, poses = batch_of_dots(turn)
    T_scene_cam = torch.cat([poses.double(), torch.tensor([0.0, 0, 0, 1]).double().expand(2, 1, 4)], 1)
    for image, T in zip(images, SCENE.pose_to_map(T_scene_cam)):
        pixel, _ = CAMERA.project(invert(T)[:3, :3] @ point + invert(T)[:3, 3])
        torch.testing.assert_close(dot_pixel(image), pixel.float(), atol=0.1, rtol=0)


def test_a_batch_is_exact_under_autocast():
    """bfloat16 would misplace the turned pixels and round the poses that the regressor is to learn."""
    turn = so3_exp(torch.tensor([[0.05, -0.06, 0.1], [-0.08, 0.04, -0.1]]).double())
    _, images, poses = batch_of_dots(turn)
    with torch.autocast('cpu', torch.bfloat16):
        _, low_images, low_poses = batch_of_dots(turn)
    torch.testing.assert_close(low_images, images)
    torch.testing.assert_close(low_poses, poses)
