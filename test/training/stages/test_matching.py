"""Direct matching in front of a known wall: its values in closed form, its gradients against finite differences."""

import pytest
import torch
from field_fixtures import seeded
from refine_fixtures import CAMERA, HISTOGRAM, SCENE, moved, true_pose, wavy_wall
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields.views import render_features, render_view
from aprloc_ros.geometry import se3_exp
from aprloc_ros.networks import build_regressor
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.matching import FieldFeatureMatching, PhotometricMatching, RegressorFeatureMatching

FIELD, T_TRUE = wavy_wall(24, 12), true_pose()
SIDE = 15
SMALL = Camera(40, 30, 35.0, 35.0, 19.5, 14.5)


def seen_at(T_map_cam, camera=CAMERA):
    """One view of the wall, as its field shows it."""
    rgb, _ = render_view(FIELD, SCENE, camera, T_map_cam, HISTOGRAM)
    images = (255 * rgb[None]).round().byte()
    return Views(camera, images, torch.ones(images[:, 0].shape, dtype=torch.bool), HISTOGRAM[None], T_map_cam[None])


def exact_features(images):
    """What an extractor would have to say: the features that the field has at the true pose."""
    with torch.no_grad():
        return render_features(FIELD, SCENE, SMALL, T_TRUE, HISTOGRAM).features[None]


@pytest.fixture(scope='module')
def dfnet():
    torch.manual_seed(0)
    arguments = {'backbone': 'mobilenet_v2', 'width': 0.25, 'feature_hidden': 8, 'feature_channels': 8}
    return build_regressor('dfnet', arguments).eval().requires_grad_(False)


@pytest.fixture(params=['photometric', 'features of the field', 'features of the regressor'])
def matching(request, dfnet):
    if request.param == 'photometric':
        return PhotometricMatching(FIELD, SCENE, seen_at(T_TRUE), SIDE)
    if request.param == 'features of the field':
        return FieldFeatureMatching(FIELD, SCENE, seen_at(T_TRUE), exact_features, SIDE)
    return RegressorFeatureMatching(FIELD, SCENE, seen_at(T_TRUE, SMALL), lambda images: dfnet.features(images, (0,))[0], SIDE)


def test_the_truth_matches_best(matching):
    with torch.no_grad():
        at_truth = matching.loss(0, T_TRUE).item()
        elsewhere = [matching.loss(0, moved(T_TRUE, 0.15, 4.0, seed)).item() for seed in range(4)]
    assert at_truth < 0.5 * min(elsewhere)


def test_its_gradient_is_that_of_finite_differences(matching):
    T, step = moved(T_TRUE, 0.08, 2.0, 5), 2e-3
    xi = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    gradient, = torch.autograd.grad(matching.loss(0, T @ se3_exp(xi)), xi)
    with torch.no_grad():
        numeric = torch.stack([(matching.loss(0, T @ se3_exp(axis)) - matching.loss(0, T @ se3_exp(-axis))) / (2 * step)
                               for axis in step * torch.eye(6, dtype=torch.float64)])
    assert F.cosine_similarity(gradient, numeric.double(), dim=0) > 0.98
    assert 0.85 < (gradient.norm() / numeric.norm()).item() < 1.18


def test_photometric_is_the_mean_squared_difference_of_reduced_images():
    image = torch.rand(1, 3, 120, 160, generator=seeded(1))
    views = Views(CAMERA, (255 * image).byte(), torch.ones(1, 120, 160, dtype=torch.bool), HISTOGRAM[None], T_TRUE[None])
    rendered, _ = render_view(FIELD, SCENE, CAMERA.with_short_side(SIDE), T_TRUE, HISTOGRAM)
    reduced = (views.images.float() / 255).unflatten(3, (20, 8)).unflatten(2, (15, 8)).mean((3, 5))
    expected = (rendered - reduced[0]).square().mean()
    assert PhotometricMatching(FIELD, SCENE, views, SIDE).loss(0, T_TRUE).item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_field_without_features_is_refused():
    field = wavy_wall(8, 4)
    field.feature_channels = 0
    with pytest.raises(AprlocError, match='feature_channels 0'):
        FieldFeatureMatching(field, SCENE, seen_at(T_TRUE), exact_features, SIDE)
