"""The feature stage: on a wall whose features are known functions of the place."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from field_fixtures import seeded
from tiny_capture import write_wall
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.config import from_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields import build_field
from aprloc_ros.fields.rendering import render_rays
from aprloc_ros.fields.views import render_features, render_view
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.images.views import common_camera, load_views
from aprloc_ros.training.stages import features as stage
from aprloc_ros.training.stages import normalisation
from aprloc_ros.training.stages.features import (
    FeatureTraining,
    PixelSource,
    feature_cosine,
    feature_l1,
    features_loss,
    fuse,
    train_features,
)
from aprloc_ros.training.stages.field import FieldTraining, field_arguments, train_field
from aprloc_ros.training.stages.loop import Loop, make_fabric
from aprloc_ros.training.structure.depths import from_depth_images

PLANES = {'plane_sizes': [16, 32], 'grid_size': 8, 'proposal_size': 16, 'features': 4, 'hidden': 32,
          'coarse_samples': 24, 'fine_samples': 10, 'feature_channels': 6, 'feature_plane_sizes': [32],
          'fusion_hidden': 16}
NEFES = {'bands': 3, 'direction_bands': 1, 'depth': 2, 'width': 16, 'coarse_samples': 8, 'fine_samples': 6,
         'transient_embedding': 4, 'feature_channels': 6, 'fusion_hidden': 4}
COLOUR = FieldTraining(arguments=PLANES, steps=100, rays=256, depth_rays=256, transient_from=1.0)
SHORT = FeatureTraining(steps=6, fusion_from=0.5, rays=48, images=3, crops=2, crop_side=6)
pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def fabric():
    return make_fabric('cpu')


def known_features(views) -> Tensor:
    """Waves over the wall z = 0, by intersecting every pixel's ray with it: [N, 6, H, W]."""
    R, t = views.T_map_cam[:, :3, :3], views.T_map_cam[:, :3, 3]
    rays = torch.einsum('nij,hwj->nhwi', R, views.camera.directions().double())
    points = t[:, None, None] - t[:, None, None, 2:] / rays[..., 2:] * rays
    x, y = points[..., 0], points[..., 1]
    phases = torch.stack([4 * x, 4 * y, 3 * x + 3 * y], 1)
    return torch.cat([phases.sin(), phases.cos()], 1).half()


class Wall:
    """Views of a wall, held-out ones, their known features, and a colour field of it that was trained for a second."""

    def __init__(self, fabric, directory):
        capture = read_capture(write_wall(directory), cache_dir=directory / 'cache')
        depths = from_depth_images(capture.train, 0)
        self.scene = normalisation.derive(torch.stack([f.T_map_cam for f in capture.train]), depths)
        camera = common_camera(capture.train, 24)
        self.views, self.held_out = (load_views(frames, camera) for frames in (capture.train, capture.test))
        self.targets, self.held_out_targets = known_features(self.views), known_features(self.held_out)
        field = train_field(fabric, self.views, self.held_out, depths, self.scene, COLOUR, 0, directory)
        self.state = field.state_dict()

    def field(self):
        """A copy of the colour field, its features untrained."""
        field = build_field('planes', field_arguments(COLOUR, self.scene))
        field.load_state_dict(self.state)
        return field.eval()


@pytest.fixture(scope='module')
def wall(one_thread, fabric, tmp_path_factory):
    return Wall(fabric, tmp_path_factory.mktemp('wall'))


def train(fabric, wall, directory, config=SHORT, field=None, targets=None, views=None):
    return train_features(fabric, wall.field() if field is None else field, views or wall.views,
                          wall.targets if targets is None else targets, wall.scene, config, 0, directory)


def colour_state(field):
    return {name: value.clone() for name, value in field.state_dict().items()
            if not name.startswith(('feature_', 'fusion.'))}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# ---- what is learned

def test_features_of_a_known_wall_on_views_that_trained_nothing(fabric, tmp_path, wall):
    mean = wall.targets.float().mean((0, 2, 3)).view(1, -1, 1, 1)
    of_the_mean = F.cosine_similarity(wall.held_out_targets.float(), mean, dim=1).mean().item()
    config = FeatureTraining(steps=120, rays=384, images=8, crops=5, crop_side=9)
    field = wall.field()
    before = feature_cosine(field, wall.scene, wall.held_out, wall.held_out_targets)
    field = train(fabric, wall, tmp_path, config, field)
    after = feature_cosine(field, wall.scene, wall.held_out, wall.held_out_targets)
    assert after > 0.85 and max(of_the_mean, before) < 0.3
    field.fusion = None
    assert feature_cosine(field, wall.scene, wall.held_out, wall.held_out_targets) > 0.75


def test_a_frozen_colour_field_is_unchanged_bit_for_bit(fabric, tmp_path, wall):
    field = wall.field()
    before = colour_state(field)
    T, histogram = wall.views.T_map_cam[0], wall.views.histograms[0]
    rgb, depth = render_view(field, wall.scene, wall.views.camera, T, histogram)
    raw = render_features(field, wall.scene, wall.views.camera, T, histogram).features
    field = train(fabric, wall, tmp_path, field=field)
    assert same(colour_state(field), before)
    rgb_after, depth_after = render_view(field, wall.scene, wall.views.camera, T, histogram)
    assert torch.equal(rgb, rgb_after) and torch.equal(depth, depth_after)
    assert not torch.equal(render_features(field, wall.scene, wall.views.camera, T, histogram).features, raw)
    assert not field.training and all(p.requires_grad for p in field.parameters())


def test_colour_goes_on_training_where_that_is_wanted(fabric, tmp_path, wall):
    field = wall.field()
    before = colour_state(field)
    after = colour_state(train(fabric, wall, tmp_path, replace(SHORT, colour='trained'), field))
    assert all(not torch.equal(after[name], before[name]) for name in ('planes.0', 'colour.0.weight', 'proposal'))


def test_the_papers_network_learns_all_three_losses(fabric, tmp_path, wall):
    torch.manual_seed(0)
    field = build_field('nefes', NEFES)
    config = replace(SHORT, colour='trained', schedule='combined', steps=80, late_feature_weight=1.0, fusion_weight=1.0,
                     learning_rate=5e-3)
    source = PixelSource(wall.views, wall.targets, wall.scene, fabric.device)

    def parts():
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            return features_loss(field.train(), source, replace(config, crops=20), wall.scene, (1.0, 1.0), generator)[1]
    before = parts()
    train(fabric, wall, tmp_path, config, field)
    after = parts()
    assert all(after[name] < before[name] for name in ('features', 'fusion', 'colour')), (before, after)


# ---- the losses

@pytest.mark.parametrize('kind', ['planes', 'nefes'])
def test_neither_feature_loss_moves_the_density(wall, kind):
    """Eq. 6 and 7 alone: the density's outputs and the colour heads get no gradient, the fusion network does."""
    torch.manual_seed(0)
    field = (wall.field() if kind == 'planes' else build_field('nefes', NEFES)).train()
    pixels = PixelSource(wall.views, wall.targets, wall.scene, torch.device('cpu')).crops(2, 3, 8, seeded(0))
    rendering = render_rays(field, pixels.rays, wall.scene.near, wall.scene.far, transient=True, features=True)
    loss = feature_l1(rendering.features, pixels.features, pixels.seen)
    (loss + feature_l1(fuse(field, rendering, 8), pixels.features, pixels.seen)).backward()
    density = field.trunk[-1].weight.grad[0] if kind == 'planes' else field.density.weight.grad
    assert density is None or not density.any()
    assert all(p.grad is None for module in (field.colour, field.transient) for p in module.parameters())
    assert all(p.grad.abs().max() > 0 for p in field.feature_parameters())
    assert field.act is None or all(p.grad is None for p in field.act.parameters())


def test_feature_l1_is_the_mean_over_what_is_seen():
    features, target = torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]), torch.zeros(3, 2)
    assert feature_l1(features, target, torch.tensor([True, True, False])).item() == pytest.approx(2.5)
    assert feature_l1(features, target, torch.zeros(3, dtype=torch.bool)).item() == 0


@pytest.mark.parametrize('colour', ['frozen', 'trained'])
def test_what_is_masked_teaches_nothing(fabric, tmp_path, wall, colour):
    seen = torch.ones_like(wall.views.seen)
    seen[:, 5:15, 8:20] = False
    fields = []
    for name, filling in (('a', 0), ('b', 1)):
        images, targets = wall.views.images.clone(), wall.targets.clone()
        images.permute(0, 2, 3, 1)[~seen], targets.permute(0, 2, 3, 1)[~seen] = 255 * filling, 7.0 * filling
        (tmp_path / name).mkdir()
        config = replace(SHORT, colour=colour)
        fields.append(train(fabric, wall, tmp_path / name, config, None, targets,
                            replace(wall.views, images=images, seen=seen)))
    assert same(fields[0].state_dict(), fields[1].state_dict())


# ---- what is drawn

def numbered(views):
    """Feature maps that say which view, row and column they are of."""
    n, _, height, width = views.images.shape
    return torch.stack(torch.meshgrid(torch.arange(n), torch.arange(height), torch.arange(width), indexing='ij'), 1)


def check_rays(wall, pixels):
    """The rays pass through the pixels that the features are of, and the colours are those of the images."""
    view, v, u = pixels.features.long().T
    T_scene_cam = wall.scene.camera_in_scene(wall.views.T_map_cam)[view]
    torch.testing.assert_close(pixels.rays.origins, T_scene_cam[:, :3, 3])
    in_camera = (T_scene_cam[:, :3, :3].mT @ pixels.rays.directions.unsqueeze(-1))[..., 0]
    uv, _ = wall.views.camera.project(in_camera)
    torch.testing.assert_close(uv, torch.stack([u, v], -1).float(), atol=1e-3, rtol=0)
    assert torch.equal(pixels.rgb * 255, wall.views.images[view, :, v, u].float())
    assert torch.equal(pixels.rays.histogram, wall.views.histograms[view])


def test_pixels_are_those_of_a_few_views(wall):
    source = PixelSource(wall.views, numbered(wall.views), wall.scene, torch.device('cpu'))
    pixels = source.pixels(3, 200, seeded(0))
    check_rays(wall, pixels)
    assert len(pixels.rgb) == 200 and pixels.features[:, 0].unique().numel() <= 3
    assert pixels.features[:, 1].max() == 23 and pixels.features[:, 2].max() == 31


def test_crops_are_squares_row_by_row(wall):
    source = PixelSource(wall.views, numbered(wall.views), wall.scene, torch.device('cpu'))
    pixels = source.crops(4, 7, 5, seeded(0))
    check_rays(wall, pixels)
    crops = pixels.features.view(7, 5, 5, 3)
    offsets = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(5), indexing='ij'), -1)
    assert torch.equal(crops[..., 1:] - crops[:, :1, :1, 1:], offsets.expand(7, 5, 5, 2).float())
    assert torch.equal(crops[..., 0], crops[:, :1, :1, 0].expand(7, 5, 5))
    assert crops[:, 0, 0, 0].unique().numel() > 1 and len(crops[:, 0, 0].unique(dim=0)) > 4


def test_fused_rays_stay_in_their_places(wall):
    """A fusion network that only passes the first features through gives them back ray by ray."""
    class Through(torch.nn.Module):
        def forward(self, rgb, features):
            assert rgb.shape == (3, 3, 5, 5) and features.shape == (3, 6, 5, 5)
            return features

    field = wall.field()
    field.fusion = Through()
    pixels = PixelSource(wall.views, wall.targets, wall.scene, torch.device('cpu')).crops(2, 3, 5, seeded(0))
    rendering = render_rays(field, pixels.rays, wall.scene.near, wall.scene.far, features=True)
    assert torch.equal(fuse(field, rendering, 5), rendering.features)


# ---- the schedule

def test_weights_are_those_of_the_schedule():
    progressive = FeatureTraining(epochs=600)
    assert progressive.total_steps(40) == 6000    # of four views each
    steps = 600
    assert progressive.weights(0, steps) == progressive.weights(199, steps) == (0.04, 0.0)
    assert progressive.weights(200, steps) == progressive.weights(599, steps) == (0.02, 0.02)
    assert FeatureTraining(steps=9, schedule='combined').weights(0, 9) == (0.02, 0.02)
    with pytest.raises(AprlocError, match='steps and epochs are both 0'):
        FeatureTraining()
    with pytest.raises(AprlocError, match='schedule is .*progressive, combined'):
        from_mapping(FeatureTraining, {'steps': 1, 'schedule': 'both'}, 'file')


@pytest.mark.parametrize('schedule, switches_at', [('progressive', 4), ('combined', 0)])
def test_the_fusion_network_learns_from_its_step_on(fabric, tmp_path, wall, schedule, switches_at):
    field, seen = wall.field(), []

    def targets(pick):
        seen.append(torch.cat([value.flatten().double() for value in field.fusion.state_dict().values()]))
        return wall.targets[pick]
    config = replace(SHORT, schedule=schedule, steps=8, fusion_from=0.5)
    train(fabric, wall, tmp_path, config, field, targets)
    seen = seen[1:]   # the first call is a check
    changed = [not torch.equal(a, b) for a, b in pairwise(seen)]   # by steps 0 to 6
    assert len(seen) == 8 and changed == [False] * switches_at + [True] * (7 - switches_at)


def test_a_field_without_fusion_trains_its_features_throughout(fabric, tmp_path, wall):
    torch.manual_seed(0)
    arguments = {**field_arguments(COLOUR, wall.scene), 'fusion_hidden': 0}
    field = build_field('planes', arguments)
    before = field.feature_head[0].weight.clone()
    field = train(fabric, wall, tmp_path, SHORT, field)
    assert not torch.equal(field.feature_head[0].weight, before)


# ---- resuming, and targets

class Interrupted(Exception):
    pass


@pytest.mark.parametrize('colour', ['frozen', 'trained'])
def test_a_run_that_was_stopped_ends_as_the_one_that_was_not(fabric, tmp_path, wall, monkeypatch, colour):
    config = replace(SHORT, colour=colour)
    (tmp_path / 'whole').mkdir()
    whole = train(fabric, wall, tmp_path / 'whole', config).state_dict()
    monkeypatch.setattr(stage, 'Loop', partial(Loop, checkpoint_every_s=-1.0))

    def stops_in(step):
        calls = []

        def targets(pick):
            calls.append(pick)
            if len(calls) == step + 2:
                raise Interrupted
            return wall.targets[pick]
        return targets
    for step in (2, 2):   # in T2, then in T3
        with pytest.raises(Interrupted):
            train(fabric, wall, tmp_path, config, targets=stops_in(step))
    assert same(train(fabric, wall, tmp_path, config).state_dict(), whole)


def test_maps_made_on_the_fly_train_as_those_in_memory(fabric, tmp_path, wall):
    (tmp_path / 'a').mkdir()
    a = train(fabric, wall, tmp_path / 'a')
    b = train(fabric, wall, tmp_path, targets=torch.inference_mode()(lambda pick: wall.targets[pick].float()))
    assert same(a.state_dict(), b.state_dict())


@pytest.mark.parametrize('channels, size, complaint', [
    (5, (24, 32), '5x24x32, they must be 6x24x32'), (6, (12, 16), '6x12x16, they must be 6x24x32')])
def test_maps_of_another_shape_are_refused(fabric, tmp_path, wall, channels, size, complaint):
    with pytest.raises(AprlocError, match=complaint):
        train(fabric, wall, tmp_path, targets=torch.zeros(24, channels, *size))


def test_a_field_without_features_is_refused(fabric, tmp_path, wall):
    with pytest.raises(AprlocError, match='feature_channels 0'):
        train(fabric, wall, tmp_path, field=build_field('nerf', {'depth': 2, 'width': 8}))
