"""The papers' refinements: their costs against closed forms, their descent in front of a known wall."""

import copy
import math

import pytest
import torch
from refine_fixtures import CAMERA, CHANNELS, HISTOGRAM, SCENE, moved, query_of, seeded, true_pose, wavy_wall
from torch import nn

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields.fusion import Fusion
from aprloc_ros.fields.views import render_features
from aprloc_ros.geometry import pose_errors, se3_exp
from aprloc_ros.refinement.refined import Budget, Query
from aprloc_ros.refinement.rendering.descent import SIGNALS, Comparison, TangentPose, warp_hessian
from aprloc_ros.refinement.rendering.nefes import (
    NefesAprRefiner,
    NefesAprSettings,
    NefesPoseRefiner,
    NefesPoseSettings,
    feature_cost,
)
from aprloc_ros.refinement.rendering.photometric import PhotometricRefiner, PhotometricSettings

FIELD, T_TRUE = wavy_wall(24, 12), true_pose()
QUERY, FEATURES = query_of(FIELD, T_TRUE)
NEAR = moved(T_TRUE, 0.06, 2.0)
AMPLE = Budget(50, 1e7)
SMALL = {'short_side': 20, 'iterations': 25}


class Regressor(nn.Module):
    """Says about the same pose of every image, at first; has weights, batch normalisation and an unused part."""

    def __init__(self, T_map_cam):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=8), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, 12)
        self.unused = nn.Linear(2, 2)
        self.head.weight.data.normal_(std=1e-3, generator=seeded(1))
        with torch.no_grad():
            self.head.bias.copy_(SCENE.pose_to_scene(T_map_cam)[:3].flatten())

    def forward(self, image):
        return self.head(self.body(image)).unflatten(-1, (3, 4))


def extract(image):
    return [FEATURES]


def pose_refiner(field=FIELD, extract=extract, **settings):
    return NefesPoseRefiner(field, SCENE, extract, NefesPoseSettings(**{**SMALL, **settings}))


def apr_refiner(regressor, field=FIELD, extract=extract, **settings):
    return NefesAprRefiner(regressor, field, SCENE, extract, NefesAprSettings(**{**SMALL, 'rate': 1e-3, **settings}))


def photometric_refiner(field=FIELD, **settings):
    return PhotometricRefiner(field, SCENE, PhotometricSettings(**{**SMALL, **settings}))


def every_refiner(field=FIELD, extract=extract):
    return [pose_refiner(field, extract), apr_refiner(Regressor(NEAR).eval(), field, extract), photometric_refiner(field)]


def test_the_cost_is_equation_one_in_both_normalisations():
    rendered, target = (torch.randn(5, 4, 6, generator=seeded(seed)) for seed in (1, 2))

    def one_minus_cosine(a, b):
        return 1 - (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())
    spatial = sum(one_minus_cosine(rendered[c], target[c]) for c in range(5)) / 5
    channel = sum(one_minus_cosine(rendered[:, v, u], target[:, v, u]) for v in range(4) for u in range(6)) / 24
    torch.testing.assert_close(feature_cost(rendered, target, 'spatial'), spatial)
    torch.testing.assert_close(feature_cost(rendered, target, 'channel'), channel)
    assert feature_cost(3 * target, target, 'spatial').abs() < 1e-6
    assert torch.isfinite(feature_cost(torch.zeros_like(target), target, 'spatial'))


@pytest.mark.parametrize('normalisation', ['spatial', 'channel'])
def test_the_pose_comes_nearer_by_features(normalisation):
    result = pose_refiner(normalisation=normalisation).refine(QUERY, NEAR[None], AMPLE)
    assert result.status == 'converged' and result.iterations == 25 and len(result.steps) == 26
    before, after = (pose_errors(T, T_TRUE) for T in (NEAR, result.T_map_cam))
    assert after[0] < 0.8 * before[0] and after[1] < 0.8 * before[1]
    assert result.cost_after < 0.2 * result.cost_before
    assert (result.cost_before, result.cost_after) == (result.steps[0].cost, result.steps[-1].cost)
    torch.testing.assert_close(result.steps[0].T_map_cam, NEAR)
    assert torch.equal(result.steps[-1].T_map_cam, result.T_map_cam)


def test_the_pose_comes_nearer_by_colour():
    result = photometric_refiner().refine(QUERY, NEAR[None], AMPLE)
    assert pose_errors(result.T_map_cam, T_TRUE)[1] < 0.8 * pose_errors(NEAR, T_TRUE)[1]
    assert result.cost_after < 0.3 * result.cost_before


def test_colours_are_compared_at_the_querys_exposure():
    """The mean squared difference of the rendering at the query's histogram: zero for its own picture alone."""
    field = wavy_wall(24, 12)
    fine = field.fine

    def dimmed(points, directions, histogram, **options):
        samples = fine(points, directions, histogram, **options)
        return type(samples)(samples.density, samples.rgb * histogram[:, :1, None], features=samples.features)
    field.fine = dimmed
    histogram = torch.cat([torch.tensor([0.5]), torch.full((9,), 0.05)])
    with torch.no_grad():
        image = render_features(field, SCENE, CAMERA, T_TRUE, histogram).rgb

    def cost(histogram):
        query = Query(image, CAMERA, histogram)
        return photometric_refiner(field, short_side=120)._compare(query)(T_TRUE).cost
    assert cost(histogram) < 1e-10
    torch.testing.assert_close(cost(HISTOGRAM), ((image / 5 - image) ** 2).mean(), rtol=1e-3, atol=1e-6)


def test_the_copy_of_the_regressor_learns_and_the_regressor_does_not():
    regressor = Regressor(NEAR).eval().requires_grad_(False)
    before = copy.deepcopy(regressor.state_dict())
    refiner = apr_refiner(regressor)
    first = refiner.refine(QUERY, NEAR[None], AMPLE)
    assert pose_errors(first.T_map_cam, T_TRUE)[1] < 0.8 * pose_errors(NEAR, T_TRUE)[1]
    assert first.cost_after < 0.3 * first.cost_before
    after = regressor.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert not any(p.requires_grad or p.grad is not None for p in regressor.parameters())
    again = refiner.refine(QUERY, NEAR[None], AMPLE)
    assert torch.equal(first.T_map_cam, again.T_map_cam)


def test_the_regressors_own_pose_is_where_it_begins():
    regressor = Regressor(NEAR).eval()
    result = apr_refiner(regressor, iterations=1).refine(QUERY, moved(T_TRUE, 2.0, 50.0)[None], AMPLE)
    assert pose_errors(result.steps[0].T_map_cam, NEAR)[0] < 0.05


def test_batch_statistics_of_the_copy_stay():
    asked = []

    class Remembered(Regressor):
        def forward(self, image):
            asked.append(self)
            return super().forward(image)
    regressor = Remembered(NEAR).train()
    apr_refiner(regressor).refine(QUERY, NEAR[None], AMPLE)
    changed = asked[-1]
    assert changed is not regressor and regressor.training
    assert torch.equal(changed.body[1].running_mean, regressor.body[1].running_mean)
    assert torch.equal(changed.body[1].running_var, regressor.body[1].running_var)
    assert not torch.equal(changed.head.weight, regressor.head.weight)
    assert not torch.equal(changed.body[0].weight, regressor.body[0].weight)


def test_the_fusion_network_is_used_where_the_field_has_one():
    field = wavy_wall(24, 12)
    field.fusion = Fusion(CHANNELS, 8).eval()
    torch.nn.init.constant_(field.fusion.layers[-1].weight, 10.0)   # far from its first, small change
    query, fused = query_of(field, T_TRUE)

    def cost(features):
        return pose_refiner(field, lambda image: [features], short_side=120)._compare(query)(T_TRUE).cost
    assert cost(fused) < 1e-5 and cost(FEATURES) > 0.1


def test_gradients_pass_whatever_the_caller_has_turned_off():
    with torch.inference_mode():
        query = Query(QUERY.image.clone(), CAMERA, HISTOGRAM.clone())
        starts = NEAR[None].clone()
        results = [refiner.refine(query, starts, AMPLE) for refiner in every_refiner(extract=lambda image: [FEATURES.clone()])]
    assert not any(result.failed for result in results)
    assert not any(result.T_map_cam.requires_grad or result.hessian.requires_grad for result in results)


@pytest.mark.parametrize('index', range(3))
def test_budgets_bound_it(index):
    refiner = every_refiner()[index]
    assert refiner.refine(QUERY, NEAR[None], Budget(4, 1e7)).iterations == 4
    assert refiner.refine(QUERY, NEAR[None], Budget(4, 1e7)).status == 'out of iterations'
    for budget in (Budget(0, 1e7), Budget(50, 0.0)):
        kept = refiner.refine(QUERY, NEAR[None], budget)
        assert kept.failed and torch.equal(kept.T_map_cam, NEAR) and set(kept.signals) == set(SIGNALS)


@pytest.mark.parametrize('index', range(3))
def test_bad_input_keeps_the_start(index):
    grey = Query(torch.full_like(QUERY.image, 0.5), CAMERA, HISTOGRAM)
    broken = Query(torch.full_like(QUERY.image, math.nan), CAMERA, HISTOGRAM)
    away = NEAR.clone()
    away[:3, :3] = away[:3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    refiner = every_refiner()[index]
    assert refiner.refine(broken, NEAR[None], AMPLE).failed
    assert refiner.refine(QUERY, torch.full((1, 4, 4), math.nan, dtype=torch.float64), AMPLE).failed
    if index != 1:   # which begins where its regressor says
        backwards = refiner.refine(QUERY, away[None], AMPLE)
        assert backwards.failed and torch.equal(backwards.T_map_cam, away)
    if index == 2:
        assert refiner.refine(grey, NEAR[None], AMPLE).failed
    else:
        for features in (torch.ones_like(FEATURES), torch.full_like(FEATURES, math.nan)):
            assert every_refiner(extract=lambda image, f=features: [f])[index].refine(QUERY, NEAR[None], AMPLE).failed


def test_tangent_steps_are_those_of_adam_on_a_fresh_tangent():
    """One step of Adam has the length of its rate along each axis, against the gradient, in the camera's own axes."""
    T = moved(T_TRUE, 0.3, 20.0)
    variable = TangentPose(T, 0.02, 0.005)
    target = T @ se3_exp(torch.tensor([0.5, -0.5, 0.5, 0.2, 0.2, -0.2], dtype=torch.float64))
    (variable.pose() - target).square().sum().backward()
    assert variable.step()
    expected = T @ se3_exp(torch.tensor([0.02, -0.02, 0.02, 0.005, 0.005, -0.005], dtype=torch.float64))
    torch.testing.assert_close(variable.pose().detach(), expected, rtol=0, atol=1e-6)
    (math.nan * variable.pose()).sum().backward()
    assert not variable.step()


def test_the_hessian_is_that_of_the_warp():
    """Against finite differences of the target, read where a fronto-parallel wall's points move to."""
    camera = CAMERA.resized(40, 30)
    depth = 2.0
    uv = torch.stack(torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing='ij')[::-1]).double()

    def smooth(uv):
        return torch.stack([torch.sin(0.21 * uv[0] + 0.1 * uv[1]), torch.cos(0.13 * uv[1]), torch.sin(0.17 * uv[0] - 0.2 * uv[1])])
    target = smooth(uv)
    rendered = target + 0.05 * torch.randn(target.shape, generator=seeded(4), dtype=torch.float64)
    seen = Comparison(torch.zeros(()), rendered, target, torch.full((30, 40), depth), torch.ones(30, 40), camera)
    hessian = warp_hessian(seen, T_TRUE)
    points = camera.directions().double().view(-1, 3) * depth

    def read(xi):
        T_inverse = torch.linalg.inv(se3_exp(xi))
        pixels, _ = camera.project(points @ T_inverse[:3, :3].T + T_inverse[:3, 3])
        return smooth(pixels.T.view(2, 30, 40))
    step = 1e-6 * torch.eye(6, dtype=torch.float64)
    J = torch.stack([(read(d) - read(-d)).flatten() / 2e-6 for d in step], -1)
    expected = J.T @ J / 0.05 ** 2
    ratio = torch.diagonal(hessian) / torch.diagonal(expected)
    # Cauchy weights of normal residuals with three components take a part of it.
    assert (ratio > 0.5).all() and (ratio < 1.1).all()


def test_settings_are_the_papers_and_checked():
    assert (NefesPoseSettings().rotation_rate, NefesPoseSettings().translation_rate) == (0.0087, 0.01)
    assert (NefesAprSettings().rate, NefesAprSettings().iterations, NefesAprSettings().border) == (1e-5, 50, 10)
    for settings in (NefesPoseSettings(), NefesAprSettings(), PhotometricSettings()):
        assert from_mapping(type(settings), to_mapping(settings), 'here') == settings
    with pytest.raises(AprlocError, match='normalisation is .none.'):
        from_mapping(NefesPoseSettings, {'normalisation': 'none'}, 'here')
