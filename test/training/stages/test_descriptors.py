"""The descriptor stage on the tiny wall: pairs, projections, learning, resuming."""

import dataclasses
import math

import pytest
import torch
from tiny_capture import write_wall

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.networks.extractor import build_extractor
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.images.augmentation import rotate_views
from aprloc_ros.training.images.views import common_camera, load_views
from aprloc_ros.training.stages.descriptors import (
    Augmented,
    DescriptorTraining,
    PairSource,
    descriptor_camera,
    step_loss,
    train_extractor,
)
from aprloc_ros.training.stages.loop import Loop, make_fabric, step_generator

pytestmark = pytest.mark.usefixtures('one_thread')
CONFIG = DescriptorTraining(arguments={'width': 0.34, 'coarse_channels': 16, 'fine_channels': 8}, short_side=32, steps=60,
                            points=64, blur_px=0.5, noise=0.01, relighting=0.3, turn_deg=3.0, zoom=0.1)


@pytest.fixture(scope='module')
def wall(tmp_path_factory):
    """Views of the wall z = 0 at the extractor's camera, and points of it that they see."""
    frames = read_capture(write_wall(tmp_path_factory.mktemp('captures') / 'wall')).train
    views = load_views(frames, descriptor_camera(common_camera(frames, 36), 32))
    xyz = torch.rand(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    xyz = (xyz - 0.5) * torch.tensor([3.0, 2.0, 0.0])
    T_cam_map = invert(views.T_map_cam)
    seen = torch.stack([views.camera.project(xyz @ T[:3, :3].T + T[:3, 3])[1] for T in T_cam_map])
    return views, SparsePoints(xyz, seen.nonzero())


def test_pairs_share_their_points(wall):
    views, points = wall
    source = PairSource(views, points, CONFIG, torch.device('cpu'))
    seen = {tuple(pair) for pair in points.observations.tolist()}
    for seed in range(20):
        for target, other, common in source.draw_pairs(torch.Generator().manual_seed(seed)):
            assert target != other and 24 <= len(common) <= 64
            assert all((target, p) in seen and (other, p) in seen for p in common.tolist())


def test_points_are_projected_to_where_the_augmented_image_shows_them(wall):
    """A bright dot on a black image at a point's place moves with the augmentation to where the point is projected."""
    views, points = wall
    source = PairSource(views, points, CONFIG, torch.device('cpu'))
    camera, T = views.camera, invert(views.T_map_cam[5])
    pixels, inside = camera.project(points.xyz @ T[:3, :3].T + T[:3, 3])
    central = (inside & ((pixels - torch.tensor([camera.cx, camera.cy])).norm(dim=1) < 8)).nonzero()[:10, 0]
    v, u = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing='ij')
    R = torch.linalg.matrix_exp(torch.tensor([[[0.0, -0.1, 0.05], [0.1, 0.0, -0.03], [-0.05, 0.03, 0.0]]], dtype=torch.float64))
    zoom = torch.tensor([1.2], dtype=torch.float64)
    for index in central:
        dot = torch.exp(-((u - pixels[index, 0]) ** 2 + (v - pixels[index, 1]) ** 2) / 4).float().expand(1, 3, -1, -1)
        moved = rotate_views(dot, camera, R, zoom)[0, 0].double()
        centre = torch.stack([(moved * u).sum(), (moved * v).sum()]) / moved.sum()
        clear = torch.ones(camera.height, camera.width, dtype=torch.bool)
        expected, seen = source.project(Augmented(5, R[0], zoom.item(), clear), index[None])
        torch.testing.assert_close(expected[0], centre, atol=0.15, rtol=0)
        column, row = expected[0].round().long().tolist()
        clear[row, column] = False
        assert seen and not source.project(Augmented(5, R[0], zoom.item(), clear), index[None])[1]


def test_a_teacher_is_asked_where_the_unchanged_views_show_the_points(wall):
    views, points = wall
    source = PairSource(views, points, dataclasses.replace(CONFIG, turn_deg=20.0), torch.device('cpu'))
    model, asked = build_extractor('nre', CONFIG.arguments), []

    class Teacher:
        def loss(self, view, descriptors, pixels):
            asked.append((view, pixels))
            assert descriptors.shape == (len(pixels), 16)
            return torch.arange(len(pixels)) + 3.0
    for seed in range(5):
        asked.clear()
        alone, taught = (step_loss(model, source, torch.Generator().manual_seed(seed), who) for who in (None, Teacher()))
        insides = []
        for view, pixels in asked:
            T = invert(views.T_map_cam[view])
            everywhere, _ = views.camera.project(points.xyz @ T[:3, :3].T + T[:3, 3])
            assert torch.cdist(pixels, everywhere).min(1).values.max() < 1e-5
            inside = (pixels > -0.5).all(1) & (pixels < torch.tensor([views.camera.width, views.camera.height]) - 0.5).all(1)
            insides.append(((torch.arange(len(pixels)) + 3.0) * inside).sum() / inside.sum().clamp_min(1))
        assert len(asked) == 2
        torch.testing.assert_close(taught - alone, torch.stack(insides).mean(), atol=1e-4, rtol=0)


def test_the_extractor_learns_to_match(wall, tmp_path):
    views, points = wall
    fabric = make_fabric('cpu')
    config = dataclasses.replace(CONFIG, steps=250, turn_deg=0.0, zoom=0.0, relighting=0.0)
    trained = train_extractor(fabric, views, points, config, 0, tmp_path)
    source = PairSource(views, points, config, fabric.device)
    with torch.no_grad():
        loss = sum(step_loss(trained, source, step_generator(fabric, 9, step)).item() for step in range(10)) / 10
    guess = math.log(6 * 4) + math.log(24 * 16)   # of one cell of either map, each as likely as the other
    assert loss < 0.7 * guess


def test_a_resumed_training_is_the_uninterrupted_one(wall, tmp_path, monkeypatch):
    views, points = wall
    config = dataclasses.replace(CONFIG, steps=6)
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    fabric = make_fabric('cpu')
    whole = train_extractor(fabric, views, points, config, 0, tmp_path / 'a')
    original = Loop.__iter__

    def interrupted(self):
        for step in original(self):
            yield step
            if step == 2:
                self.step = 3
                self.save()
                raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(Loop, '__iter__', interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_extractor(fabric, views, points, config, 0, tmp_path / 'b')
    resumed = train_extractor(fabric, views, points, config, 0, tmp_path / 'b')
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_views_that_share_nothing_are_refused(wall):
    views, points = wall
    alone = SparsePoints(points.xyz, points.observations[points.observations[:, 0] == 3])
    with pytest.raises(AprlocError, match='no two training images share 24 points'):
        PairSource(views, alone, CONFIG, torch.device('cpu'))
