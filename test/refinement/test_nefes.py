"""NeFeS: features along rays, the exposure's colour transform, the fusion network, views of features."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from field_fixtures import FAR, NEAR, Analytic, seeded, some_rays
from tiny_map import save_tiny_map
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields import build_field
from aprloc_ros.fields.exposure import AffineColour
from aprloc_ros.fields.fusion import Fusion
from aprloc_ros.fields.rendering import RayBatch, render_rays
from aprloc_ros.fields.views import render_features, render_view
from aprloc_ros.geometry import se3_exp
from aprloc_ros.map_bundle import load_map
from aprloc_ros.scene import SceneNormalisation

BOUNDS = [[-1.0, -2.0, 0.0], [3.0, 2.0, 1.0]]
NEFES = {'bands': 3, 'direction_bands': 2, 'depth': 6, 'width': 16, 'coarse_samples': 8, 'fine_samples': 6,
         'transient_embedding': 4, 'feature_channels': 5, 'fusion_hidden': 4}
PLANES = {'bounds': BOUNDS, 'plane_sizes': [8, 16], 'grid_size': 6, 'features': 3, 'hidden': 16, 'proposal_size': 8,
          'coarse_samples': 12, 'fine_samples': 7, 'embedding': 5}
WITH_FEATURES = {**PLANES, 'feature_channels': 5, 'feature_plane_sizes': [12], 'fusion_hidden': 4}
KINDS = {'nefes': NEFES, 'planes': WITH_FEATURES}
CAMERA = Camera(12, 9, 10.0, 11.0, 5.2, 4.1)
SCENE_UNIT_M = 2.5
T_MAP_CAM = se3_exp(torch.tensor([0.4, 0.2, -0.3, 0.1, -0.2, 0.05], dtype=torch.float64))
HISTOGRAM = torch.rand(10, generator=seeded()).softmax(-1)


def small_field(kind, seed=0, **changes):
    torch.manual_seed(seed)
    return build_field(kind, {**KINDS[kind], **changes}).eval()


def normalisation():
    T_map_scene = se3_exp(torch.tensor([0.1, -0.2, 0.3, 0.2, -0.1, 0.3], dtype=torch.float64))
    return SceneNormalisation(T_map_scene, scene_unit_m=SCENE_UNIT_M, pose_unit_m=1.0, near_m=NEAR * SCENE_UNIT_M,
                              far_m=FAR * SCENE_UNIT_M, bounds=torch.tensor(BOUNDS, dtype=torch.float64))


def smooth(channels=4):
    """A soft fog with waves of features: everything about it can be differentiated."""
    def feature(points):
        phase = points @ torch.randn(3, channels, generator=seeded(), dtype=torch.float32).to(points)
        return phase.sin()
    return Analytic(lambda points: 0.4 * (1.2 + points.sum(-1).sin()), coarse_samples=48, feature=feature).eval()


# ---- features along rays

def test_features_are_the_quadrature_of_equation_2():
    field, rays = smooth(), some_rays(6)
    rendering = render_rays(field, rays, NEAR, FAR, features=True)
    for ray in range(6):
        step, light, expected = (FAR - NEAR) / 48, 1.0, np.zeros(4)
        for i in range(48):
            depth = NEAR + (i + 0.5) * step
            point = rays.origins[ray] + depth * rays.directions[ray]
            length = 1e10 if i == 47 else step * rays.directions[ray].norm().item()
            passed = math.exp(-field.density(point).item() * length)
            expected += light * (1 - passed) * field.feature(point).numpy()
            light *= passed
        np.testing.assert_allclose(rendering.features[ray].numpy(), expected, atol=1e-5)


def test_features_are_rendered_only_when_asked_for_and_only_where_there_are_any():
    assert render_rays(small_field('nefes'), some_rays(), NEAR, FAR).features is None
    without = build_field('planes', PLANES)
    assert without.feature_channels == 0
    assert render_rays(without, some_rays(), NEAR, FAR, features=True).features is None


@pytest.mark.parametrize('kind', KINDS)
def test_asking_for_features_changes_nothing_else(kind):
    field, rays = small_field(kind), some_rays()
    plain, full = (render_rays(field, rays, NEAR, FAR, features=features) for features in (False, True))
    assert torch.equal(plain.rgb, full.rgb) and torch.equal(plain.depth, full.depth)
    assert full.features.shape == (20, 5) == (20, field.feature_channels)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('exposure', ['act', 'embedding', 'none'])
def test_features_see_neither_direction_nor_exposure_nor_transients(kind, exposure):
    field, rays = small_field(kind, exposure=exposure), some_rays()
    points = rays.points(torch.linspace(NEAR, FAR, 5).expand(20, -1))
    asked = [(rays.directions, rays.histogram, False), (rays.directions.flip(0), rays.histogram.flip(0), True)]
    a, b = (field.fine(points, directions, histogram, transient=transient, features=True).features
            for directions, histogram, transient in asked)
    assert torch.equal(a, b) and a.shape == (20, 5, 5)


@pytest.mark.parametrize('kind', KINDS)
def test_the_feature_loss_never_moves_the_density(kind):
    """In training the density's outputs get a gradient of exactly zero, while the features' own parameters get one."""
    field = small_field(kind).train()
    render_rays(field, some_rays(), NEAR, FAR, features=True, generator=seeded()).features.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for name, p in field.named_parameters() if name.startswith('feature_'))
    if kind == 'planes':   # density and state are outputs of one layer
        assert field.trunk[-1].weight.grad[0].abs().max() == 0 == field.trunk[-1].bias.grad[0].abs()
        assert field.proposal.grad is None and field.trunk[-1].weight.grad[1:].abs().max() > 0
    else:
        assert field.density.weight.grad is None and field.base_density.weight.grad is None
        assert all(p.grad is None for p in field.base.parameters())
    assert all(p.grad is None for module in (field.colour, field.transient) for p in module.parameters())


@pytest.mark.parametrize('kind', KINDS)
def test_a_trained_field_lets_the_density_answer_to_the_pose(kind):
    field = small_field(kind).eval()
    render_rays(field, some_rays(), NEAR, FAR, features=True).features.square().sum().backward()
    density = field.trunk[-1].weight.grad[0] if kind == 'planes' else field.density.weight.grad
    assert density.abs().max() > 0


@pytest.mark.parametrize('transient', [False, True])
def test_the_static_colour_is_what_is_left_without_transients(transient):
    field, rays = small_field('nefes'), some_rays()
    rendering = render_rays(field, rays, NEAR, FAR, transient=transient)
    assert torch.equal(rendering.static_rgb, render_rays(field, rays, NEAR, FAR).rgb)
    assert torch.equal(rendering.static_rgb, rendering.rgb) != transient


def test_features_cost_the_colour_field_nothing():
    """Same seed, same colour field, whether it carries features or not; and the names that maps on disk have."""
    torch.manual_seed(3)
    plain = build_field('planes', PLANES).state_dict()
    torch.manual_seed(3)
    full = build_field('planes', WITH_FEATURES)
    own = {name for name in full.state_dict() if name not in plain}
    assert all(torch.equal(full.state_dict()[name], value) for name, value in plain.items())
    assert own and all(name.startswith(('feature_', 'fusion.')) for name in own)
    feature_parameters = {id(p) for p in full.feature_parameters()}
    assert {name for name, p in full.named_parameters() if id(p) in feature_parameters} <= own
    assert len(feature_parameters) == len([name for name in own if 'running' not in name and 'num_b' not in name])


def test_a_map_without_features_says_so(tmp_path):
    bundle = load_map(save_tiny_map(tmp_path / 'tiny'), 'cpu')
    assert 'feature_channels' not in bundle.manifest.field.arguments and bundle.field.feature_channels == 0


def test_parameter_counts_of_the_papers_sizes():
    """Two networks of 8 x 128, heads, the transform, the fusion network: 0.7 million."""
    def linear(inputs, outputs):
        return inputs * outputs + outputs
    network = (linear(63, 128) + 6 * linear(128, 128) + linear(128 + 63, 128) + linear(128, 1)
               + linear(128, 128) + linear(128 + 27, 64) + linear(64, 3))
    transient = linear(10, 20) + linear(148, 64) + 2 * linear(64, 64) + linear(64, 5)
    act = linear(10, 32) + 2 * linear(32, 32) + linear(32, 12)
    fusion = linear(131 * 9, 64) + 2 * linear(64 * 9, 64) + linear(64 * 25, 128) + 2 * 128
    field = build_field('nefes', {})
    count = sum(p.numel() for p in field.parameters())
    assert count == 2 * network + transient + act + linear(128, 128) + fusion
    assert 0.65e6 < count < 0.75e6
    assert (field.coarse_samples, field.fine_samples, field.feature_channels) == (64, 64, 128)


# ---- exposure

def test_the_transform_is_the_affine_map_of_the_paper():
    act = AffineColour()
    K, b = torch.randn(3, 3, generator=seeded()), torch.randn(3, generator=seeded(1))
    act.layers[-1].weight.data.zero_()
    act.layers[-1].bias.data = torch.cat([K.flatten(), b])
    rgb = torch.rand(7, 3, generator=seeded(2))
    torch.testing.assert_close(act(rgb, torch.rand(7, 10)), torch.stack([K @ c + b for c in rgb]))


def test_an_untrained_transform_is_nearly_the_identity():
    torch.manual_seed(0)
    act, rgb = AffineColour(), torch.rand(200, 3, generator=seeded())
    histograms = torch.eye(10).repeat(20, 1)
    assert (act(rgb, histograms) - rgb).abs().max() < 0.05
    assert (act(rgb, histograms) - act(rgb, histograms.flip(0))).abs().max() > 0
    assert [type(layer).__name__ for layer in act.layers] == ['Linear', 'ReLU'] * 3 + ['Linear']


@pytest.mark.parametrize('kind', KINDS)
def test_the_transform_works_on_the_rendered_colour(kind):
    """What is rendered with it is K c + b of what is rendered without it, the coarse pass included."""
    field, rays = small_field(kind, exposure='act'), some_rays()
    act, field.act = field.act, None
    before = render_rays(field, rays, NEAR, FAR, transient=True)
    field.act = act
    after = render_rays(field, rays, NEAR, FAR, transient=True)
    torch.testing.assert_close(after.rgb, act(before.rgb, rays.histogram))
    torch.testing.assert_close(after.static_rgb, act(before.static_rgb, rays.histogram))
    assert torch.equal(before.depth, after.depth) and torch.equal(before.beta, after.beta)
    if kind == 'nefes':
        torch.testing.assert_close(after.coarse_rgb, act(before.coarse_rgb, rays.histogram))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('exposure, sees', [('embedding', True), ('act', True), ('none', False)])
def test_what_of_the_exposure_reaches_the_static_colour(kind, exposure, sees):
    field, rays = small_field(kind, exposure=exposure), some_rays()
    other = replace(rays, histogram=torch.eye(10)[9].expand(20, 10))
    a, b = (render_rays(field, r, NEAR, FAR).rgb for r in (rays, other))
    assert torch.equal(a, b) != sees
    field.act = None
    a, b = (render_rays(field, r, NEAR, FAR).rgb for r in (rays, other))
    assert torch.equal(a, b) != (exposure == 'embedding')


# ---- fusion

@pytest.mark.parametrize('height, width', [(16, 16), (9, 13), (1, 5)])
def test_the_fusion_network_keeps_the_size(height, width):
    fusion = Fusion(6, 8).eval()
    assert fusion(torch.rand(2, 3, height, width), torch.randn(2, 6, height, width)).shape == (2, 6, height, width)


def test_the_fusion_networks_layers_are_the_papers():
    layers = [(type(layer).__name__, getattr(layer, 'kernel_size', None), getattr(layer, 'out_channels', None))
              for layer in Fusion(128).layers]
    convolution = [('Conv2d', (3, 3), 64), ('ReLU', None, None)]
    assert layers == convolution * 3 + [('Conv2d', (5, 5), 128), ('BatchNorm2d', None, None)]


def test_the_fusion_network_adds_to_the_features_and_sees_imagenet_normalised_colours():
    torch.manual_seed(0)
    fusion = Fusion(2, 4).eval()
    rgb, features = torch.rand(1, 3, 8, 8), torch.randn(1, 2, 8, 8)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    normalised = (rgb - mean) / deviation
    torch.testing.assert_close(fusion(rgb, features), features + fusion.layers(torch.cat([normalised, features], 1)))
    added = Fusion(2, 4)(rgb, features) - features   # in training, of a tenth of a deviation at first
    torch.testing.assert_close(added.std((0, 2, 3), unbiased=False), torch.full((2,), 0.1), atol=0.01, rtol=0)


def test_batch_normalisation_counts_in_training_and_rests_in_use():
    torch.manual_seed(0)
    fusion = Fusion(3, 4)
    rgb, features = torch.rand(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    for _ in range(300):
        trained = fusion(rgb, features)
    added = trained - features
    torch.testing.assert_close(added.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(added.std((0, 2, 3), unbiased=False), fusion.layers[-1].weight, atol=0.01, rtol=0)
    fusion.eval()
    used = fusion(rgb, features)
    torch.testing.assert_close(used, trained, atol=0.005, rtol=0)
    torch.testing.assert_close(used[:1], fusion(rgb[:1], features[:1]))   # one image does not depend on the others


def test_a_crop_fuses_as_the_whole_but_for_its_border():
    """The kernels reach 1 + 1 + 1 + 2 pixels."""
    torch.manual_seed(0)
    fusion = Fusion(3, 4).eval()
    rgb, features = torch.rand(1, 3, 30, 30), torch.randn(1, 3, 30, 30)
    whole = fusion(rgb, features)[..., 6:22, 6:22]
    crop = fusion(rgb[..., 6:22, 6:22], features[..., 6:22, 6:22])
    torch.testing.assert_close(crop[..., 5:-5, 5:-5], whole[..., 5:-5, 5:-5])
    assert not torch.allclose(crop[..., 0, :], whole[..., 0, :], atol=1e-3)


# ---- views of features

@pytest.mark.parametrize('kind', KINDS)
def test_a_feature_view_is_the_fusion_of_its_rays(kind):
    field, scene = small_field(kind), normalisation()
    view = render_features(field, scene, CAMERA, T_MAP_CAM, HISTOGRAM, chunk=17)
    assert view.rgb.shape == (3, 9, 12) and view.features.shape == (5, 9, 12)
    rgb, depth = render_view(field, scene, CAMERA, T_MAP_CAM, HISTOGRAM)
    torch.testing.assert_close(view.rgb.detach(), rgb.clone())
    torch.testing.assert_close(view.depth_m.detach(), depth.clone())
    T_scene_cam = scene.camera_in_scene(T_MAP_CAM)
    directions = CAMERA.directions().view(-1, 3) @ T_scene_cam[:3, :3].T
    rays = RayBatch(T_scene_cam[:3, 3].expand_as(directions), directions, HISTOGRAM.expand(len(directions), -1))
    single = render_rays(field, rays, scene.near, scene.far, features=True)
    torch.testing.assert_close(single.opacity.view(9, 12), view.opacity)
    fusion, field.fusion = field.fusion, None
    raw = render_features(field, scene, CAMERA, T_MAP_CAM, HISTOGRAM).features
    torch.testing.assert_close(single.features.T.view(5, 9, 12), raw)
    torch.testing.assert_close(fusion(rgb.clone()[None], raw[None])[0], view.features, atol=1e-4, rtol=1e-4)


def test_views_work_under_inference_mode_and_keep_gradients_otherwise():
    field, scene = small_field('planes'), normalisation()
    with torch.inference_mode():
        view = render_features(field, scene, CAMERA, T_MAP_CAM, HISTOGRAM)
    assert not view.features.requires_grad
    T = T_MAP_CAM.clone().requires_grad_()
    assert render_features(field, scene, CAMERA, T, HISTOGRAM).features.requires_grad


def cost(field, scene, xi, target):
    view = render_features(field, scene, CAMERA, T_MAP_CAM @ se3_exp(xi), HISTOGRAM)
    return (1 - F.cosine_similarity(view.features.flatten(1), target.flatten(1))).double().mean()


@pytest.mark.parametrize('fused', [False, True])
def test_the_gradient_of_the_pose_against_finite_differences(fused):
    field, scene = smooth(), normalisation()
    torch.manual_seed(0)
    field.fusion = Fusion(4, 8).eval() if fused else None
    elsewhere = T_MAP_CAM @ se3_exp(torch.full((6,), 0.1, dtype=torch.float64))
    target = render_features(field, scene, CAMERA, elsewhere, HISTOGRAM).features
    xi = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    cost(field, scene, xi, target).backward()
    with torch.no_grad():
        step = 3e-3 * torch.eye(6, dtype=torch.float64)
        numeric = torch.stack([cost(field, scene, s, target) - cost(field, scene, -s, target) for s in step]) / 6e-3
    assert numeric.abs().min() > 1e-3
    torch.testing.assert_close(xi.grad, numeric, rtol=0.02, atol=2e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_a_field_without_features_says_so(kind):
    field = small_field(kind, feature_channels=0)
    assert field.fusion is None and not field.feature_parameters()
    with pytest.raises(AprlocError, match='feature_channels 0, it must have 1 or more'):
        render_features(field, normalisation(), CAMERA, T_MAP_CAM, HISTOGRAM)
