"""Random view synthesis: the bounds that were asked for, loops, and the renderer of whole pictures."""

import math

import pytest
import torch
from torch.nn.functional import interpolate

from aprloc_ros.camera import Camera
from aprloc_ros.fields import build_field
from aprloc_ros.fields.views import render_view
from aprloc_ros.geometry import se3_exp
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.synthesis import Renderer, nearest_histograms, random_poses
from aprloc_ros.training.images.views import Views

CAMERA = Camera(24, 16, 20.0, 20.0, 11.5, 7.5)
SCENE = SceneNormalisation(se3_exp(torch.tensor([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]).double()), 2.0, 1.0, 0.5, 6.0,
                           torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))


def training_poses(count: int = 30) -> torch.Tensor:
    xi = torch.randn(count, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return se3_exp(xi * torch.tensor([3.0, 3.0, 0.2, 0.5, 0.5, 0.5], dtype=torch.float64))


def drawn(translation_m: float, rotation_deg: float, nearest_m: float, seed: int = 0, count: int = 2000):
    T_train = training_poses()
    T = random_poses(T_train, count, translation_m, rotation_deg, nearest_m, torch.Generator().manual_seed(seed))
    return T_train, T


def angles_deg(T: torch.Tensor, T_train: torch.Tensor) -> torch.Tensor:
    """[N, M], by the trace."""
    trace = torch.einsum('nij,mij->nm', T[:, :3, :3], T_train[:, :3, :3])
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def test_random_poses_stay_within_the_move_and_the_turn():
    """Some training pose is both near enough and alike enough, and all of the range is used."""
    T_train, T = drawn(0.4, 12.0, nearest_m=10.0)
    away = torch.cdist(T[:, :3, 3], T_train[:, :3, 3])
    turned = angles_deg(T, T_train)
    source = (away / 0.4).maximum(turned / 12.0).argmin(1, keepdim=True)
    away, turned = away.gather(1, source), turned.gather(1, source)
    assert away.max() <= 0.4 + 1e-9 and away.max() > 0.38 and away.min() < 0.02
    assert turned.max() <= 12.0 + 1e-6 and turned.max() > 11.5 and turned.min() < 0.5


def test_random_poses_start_everywhere():
    T_train, T = drawn(0.01, 0.1, 1.0)
    counts = torch.bincount(torch.cdist(T[:, :3, 3], T_train[:, :3, 3]).argmin(1), minlength=len(T_train))
    assert counts.min() > 2000 / 30 / 3


def test_random_poses_end_near_a_training_pose():
    T_train, T = drawn(5.0, 5.0, nearest_m=0.25)
    nearest = torch.cdist(T[:, :3, 3], T_train[:, :3, 3]).min(1).values
    assert nearest.max() <= 0.25 + 1e-9
    assert nearest.max() > 0.2


def test_random_poses_are_rigid_and_come_from_the_generator():
    _, T = drawn(1.0, 60.0, 0.5)
    identity = torch.eye(3, dtype=torch.float64).expand(len(T), 3, 3)
    torch.testing.assert_close(T[:, :3, :3] @ T[:, :3, :3].mT, identity)
    torch.testing.assert_close(torch.linalg.det(T[:, :3, :3]), torch.ones(len(T), dtype=torch.float64))
    assert torch.equal(T[:, 3], torch.tensor([0.0, 0, 0, 1]).double().expand(len(T), 4))
    assert torch.equal(T, drawn(1.0, 60.0, 0.5)[1])
    assert not torch.equal(T, drawn(1.0, 60.0, 0.5, seed=1)[1])


def test_the_axes_of_the_turns_have_no_preference():
    T_train, T = drawn(1e-6, 30.0, 1.0, count=4000)
    source = torch.cdist(T[:, :3, 3], T_train[:, :3, 3]).argmin(1)
    R = T_train[source, :3, :3].mT @ T[:, :3, :3]
    axis = torch.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], -1)
    assert axis.mean(0).norm() < 0.05
    spread = axis.square().mean(0)
    assert spread.max() / spread.min() < 1.15


def test_histograms_of_the_nearest_image():
    T_train = training_poses()
    histograms = torch.rand(len(T_train), 10, generator=torch.Generator().manual_seed(2))
    views = Views(CAMERA, torch.zeros(30, 3, 16, 24, dtype=torch.uint8), torch.ones(30, 16, 24, dtype=torch.bool),
                  histograms, T_train)
    _, T = drawn(1.0, 10.0, 10.0, count=50)
    given = nearest_histograms(T, views)
    for pose, histogram in zip(T.tolist(), given):
        distances = [math.dist([row[3] for row in pose[:3]], [row[3] for row in other[:3]])
                     for other in T_train.tolist()]
        assert torch.equal(histogram, histograms[distances.index(min(distances))])


@pytest.fixture(scope='module')
def field():
    torch.manual_seed(0)
    model = build_field('planes', {'bounds': SCENE.bounds.tolist(), 'plane_sizes': [8], 'grid_size': 4, 'features': 2,
                                   'hidden': 8, 'proposal_size': 4, 'coarse_samples': 6, 'fine_samples': 4})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def test_renderings_are_render_view_in_bytes(field):
    T, histograms = training_poses(3), torch.rand(3, 10)
    calls = []
    images = Renderer(field, SCENE, CAMERA, short_side=100).render(T, histograms, lambda: calls.append(1))
    assert images.dtype == torch.uint8 and images.shape == (3, 3, 16, 24) and len(calls) == 3
    for image, pose, histogram in zip(images, T, histograms):
        rgb, _ = render_view(field, SCENE, CAMERA, pose, histogram)
        assert rgb.std() > 0.001
        assert (image.float() / 255 - rgb).abs().max() <= 0.5 / 255 + 1e-6


def test_small_renderings_are_enlarged_to_the_camera(field):
    T, histogram = training_poses(1), torch.full((1, 10), 0.1)
    images = Renderer(field, SCENE, CAMERA, short_side=8).render(T, histogram)
    small, _ = render_view(field, SCENE, CAMERA.resized(12, 8), T[0], histogram[0])
    expected = interpolate(small[None], (16, 24), mode='bilinear', align_corners=False)[0]
    assert (images[0].float() / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6
