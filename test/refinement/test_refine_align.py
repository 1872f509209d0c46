"""Alignment in front of a wall that is known, where the true pose is known exactly."""

import math
from dataclasses import replace

import pytest
import torch
from refine_fixtures import CHANNELS, HISTOGRAM, SCENE, moved, query_of, seeded, true_pose, waves, wavy_wall

from aprloc_ros.camera import Camera
from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.covariance import residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose_errors
from aprloc_ros.refinement.levenberg import Kernel
from aprloc_ros.refinement.refined import Budget, Query
from aprloc_ros.refinement.rendering import align
from aprloc_ros.refinement.rendering.align import SIGNALS, AlignRefiner, AlignSettings

FIELD, T_TRUE = wavy_wall(), true_pose()
QUERY, FEATURES = query_of(FIELD, T_TRUE)
AMPLE = Budget(50, 1e6)


def refiner(features=FEATURES, field=FIELD, settings=None):
    return AlignRefiner(field, SCENE, lambda image: [features], settings)


def assert_kept(result, start, status='failed'):
    assert result.failed and result.status == status
    assert torch.equal(result.T_map_cam, start)
    assert set(result.signals) == set(SIGNALS)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('metres, degrees', [(0.05, 2.0), (0.2, 6.0), (0.4, 10.0), (1.0, 25.0)])
def test_it_finds_the_true_pose(metres, degrees, seed):
    start = moved(T_TRUE, metres, degrees, seed)
    result = refiner().refine(QUERY, start[None], AMPLE)
    error_m, error_deg = pose_errors(result.T_map_cam, T_TRUE)
    assert result.status == 'converged' and error_m < 0.003 and error_deg < 0.08
    assert result.cost_after < result.cost_before
    assert all(0 <= result.signals[name] <= 1 for name in SIGNALS)
    assert result.signals['inlier_share'] > 0.85 and result.signals['opacity'] > 0.9 and result.signals['agreement'] > 0.4


def test_no_more_than_ten_iterations_are_made():
    start = moved(T_TRUE, 0.1, 3.0)
    result = refiner().refine(QUERY, start[None], AMPLE)
    assert result.iterations == len(result.steps) <= 10 and result.status == 'converged'
    assert pose_errors(result.T_map_cam, T_TRUE)[0] < 0.003
    errors = [pose_errors(step.T_map_cam, T_TRUE)[0] for step in result.steps]
    assert errors[-1] < 0.05 * pose_errors(start, T_TRUE)[0]
    assert all(a.elapsed_ms <= b.elapsed_ms for a, b in zip(result.steps, result.steps[1:]))


def test_at_the_true_pose_it_stays():
    result = refiner().refine(QUERY, T_TRUE[None], AMPLE)
    assert not result.failed
    assert pose_errors(result.T_map_cam, T_TRUE)[0] < 5e-4


def test_the_best_of_several_starts_wins_wherever_it_stands():
    far = [moved(T_TRUE, 1.0, 40.0, seed) for seed in range(2)]
    near = [moved(T_TRUE, 0.2, 5.0, seed) for seed in range(2)]
    result = refiner().refine(QUERY, torch.stack([far[0], near[0], far[1], near[1]]), AMPLE)
    assert pose_errors(result.T_map_cam, T_TRUE)[0] < 0.003
    assert result.signals['cost_drop'] > 0.5


def test_two_poses_that_each_explain_a_part_do_not_agree():
    """The left three fifths of the image are seen from the true pose, the rest from another."""
    features = FEATURES.clone()
    features[..., 95:] = query_of(FIELD, moved(T_TRUE, 0.5, 8.0, 4))[1][..., 95:]
    start = moved(T_TRUE, 0.1, 2.0)[None]
    torn, sure = refiner(features).refine(QUERY, start, AMPLE), refiner().refine(QUERY, start, AMPLE)
    assert pose_errors(torn.T_map_cam, T_TRUE)[0] < 0.02
    assert torn.signals['agreement'] < sure.signals['agreement'] - 0.2


@pytest.fixture
def rendered(monkeypatch):
    """From how many poses each rendering was."""
    counts, original = [], align.render_surface

    def counted(*arguments):
        counts.append(len(arguments[4]))
        return original(*arguments)
    monkeypatch.setattr(align, 'render_surface', counted)
    return counts


def test_it_renders_the_starts_and_once_more(rendered):
    refiner().refine(QUERY, torch.stack([moved(T_TRUE, 0.3, 5.0), moved(T_TRUE, 0.2, 3.0)]), AMPLE)
    assert rendered == [2, 1]


def test_a_budget_that_ends_on_the_way_spends_no_rendering_more(rendered):
    result = refiner().refine(QUERY, moved(T_TRUE, 0.1, 3.0)[None], Budget(4, 1e6))
    assert rendered == [1] and result.status == 'out of iterations' and result.iterations == 4
    assert pose_errors(result.T_map_cam, T_TRUE)[0] < 0.05 and torch.linalg.eigvalsh(result.hessian).min() > 0


def test_no_gradient_runs_through_the_field():
    field = wavy_wall().requires_grad_(True)
    with torch.enable_grad():
        result = refiner(field=field).refine(QUERY, moved(T_TRUE, 0.05, 1.0)[None], AMPLE)
    assert not result.T_map_cam.requires_grad and not result.hessian.requires_grad


def test_equal_queries_have_equal_answers():
    starts = moved(T_TRUE, 0.2, 4.0)[None]
    a, b = (refiner().refine(QUERY, starts, AMPLE) for _ in range(2))
    assert torch.equal(a.T_map_cam, b.T_map_cam) and torch.equal(a.hessian, b.hessian)


def test_the_scale_of_features_does_not_matter():
    start = moved(T_TRUE, 0.1, 3.0)[None]
    a, b = refiner().refine(QUERY, start, AMPLE), refiner(40 * FEATURES).refine(QUERY, start, AMPLE)
    torch.testing.assert_close(a.T_map_cam, b.T_map_cam, rtol=0, atol=1e-4)


def other_features():
    """What the camera would see of another place of the same shape."""
    elsewhere = wavy_wall()
    elsewhere.feature = waves(CHANNELS, (3.0, 13.0), 21)
    return query_of(elsewhere, T_TRUE)[1]


@pytest.mark.parametrize('seed', range(3))
def test_an_occluder_over_a_third_of_the_image_does_not_pull(seed):
    features = FEATURES.clone()
    features[..., :55] = other_features()[..., :55]
    result = refiner(features).refine(QUERY, moved(T_TRUE, 0.1, 3.0, seed)[None], AMPLE)
    assert pose_errors(result.T_map_cam, T_TRUE)[0] < 0.02
    assert 0.4 < result.signals['inlier_share'] < 0.75


def test_the_hessian_says_how_far_noise_moves_the_pose():
    """A query whose features have a noise of their own in every cell: errors are as large as the Hessian says, within a
    factor of two.
    """
    settings = AlignSettings(kernel=Kernel(shape=2.0))
    distances = []
    for seed in range(16):
        noisy = FEATURES + 0.4 * torch.randn(FEATURES.shape, generator=seeded(seed))
        result = refiner(noisy, settings=settings).refine(QUERY, moved(T_TRUE, 0.005, 0.1)[None], AMPLE)
        xi = residuals(result.T_map_cam, T_TRUE)
        distances.append((xi @ result.hessian @ xi).item())
    assert 6 / 4 < sum(distances) / len(distances) < 6 * 4


def test_a_field_with_other_features_than_the_querys_is_a_mistake_that_is_named():
    with pytest.raises(AprlocError, match='16 feature channels.*5'):
        refiner(FEATURES[:, :5]).refine(QUERY, T_TRUE[None], AMPLE)


@pytest.mark.parametrize(('budget', 'status'), [(Budget(0, 1e6), 'out of iterations'), (Budget(50, 0.0), 'out of time')])
def test_a_budget_of_zero_returns_the_start(budget, status):
    start = moved(T_TRUE, 0.1, 3.0)
    assert_kept(refiner().refine(QUERY, start[None], budget), start, status)


def test_whatever_the_deadline_it_is_out_of_time_or_the_answer_of_no_deadline(look_ms):
    start = moved(T_TRUE, 0.05, 1.0)[None]
    expected = refiner().refine(QUERY, start, AMPLE)
    found = [refiner().refine(QUERY, start, Budget(50, look_ms * (looks + 0.5))) for looks in range(40)]
    statuses = [result.status for result in found]
    finished = statuses.index('converged')
    assert finished > 3 and set(statuses[:finished]) == {'out of time'} and set(statuses[finished:]) == {'converged'}
    assert all(torch.equal(result.T_map_cam, expected.T_map_cam) for result in found[finished:])
    assert any(0 < result.iterations < expected.iterations for result in found[:finished])


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_features_that_are_not_finite_keep_the_start(value):
    features = FEATURES.clone()
    features[0, 3, 7, 9] = value
    start = moved(T_TRUE, 0.1, 3.0)
    assert_kept(refiner(features).refine(QUERY, start[None], AMPLE), start)


@pytest.mark.parametrize('features', [torch.zeros_like(FEATURES), torch.ones_like(FEATURES)], ids=['zero', 'one'])
def test_an_image_without_texture_keeps_the_start(features):
    start = moved(T_TRUE, 0.1, 3.0)
    assert_kept(refiner(features).refine(QUERY, start[None], AMPLE), start)


def test_a_start_outside_the_map_or_not_a_number_keeps_it():
    away = moved(T_TRUE, 0.0, 0.0)
    away[:3, 3] += away[:3, 2] * 500.0
    result = refiner().refine(QUERY, away[None], AMPLE)
    assert result.failed or result.signals['inlier_share'] < 0.05
    back = T_TRUE.clone()
    back[:3, :3] = back[:3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    result = refiner().refine(QUERY, back[None], AMPLE)
    assert_kept(result, back)
    broken = torch.full((4, 4), math.nan, dtype=torch.float64)
    assert refiner().refine(QUERY, broken[None], AMPLE).failed
    found = refiner().refine(QUERY, torch.stack([broken, moved(T_TRUE, 0.1, 3.0)]), AMPLE)
    assert pose_errors(found.T_map_cam, T_TRUE)[0] < 0.003


def test_a_way_that_ends_where_nothing_is_rendered_keeps_the_start(monkeypatch):
    """The starts see the wall, but the pose they lead to does not: its rendering has no point that counts."""
    original = align.render_surface

    def rendered(*arguments):
        surface = original(*arguments)
        return surface if len(arguments[4]) == 2 else replace(surface, weights=torch.zeros_like(surface.weights))
    monkeypatch.setattr(align, 'render_surface', rendered)
    starts = torch.stack([moved(T_TRUE, 0.3, 5.0), moved(T_TRUE, 0.3, 5.0, 1)])
    assert_kept(refiner().refine(QUERY, starts, AMPLE), starts[0])


def test_another_place_is_not_taken_for_this_one():
    """Features of elsewhere: either nothing was gained, or the signals say that hardly anything matches."""
    result = refiner(other_features()).refine(QUERY, moved(T_TRUE, 0.1, 3.0)[None], AMPLE)
    assert result.failed or result.signals['inlier_share'] < 0.2


def test_tiny_images_are_no_trouble():
    camera = Camera(4, 3, 3.0, 3.0, 1.5, 1.0)
    query, features = query_of(FIELD, T_TRUE, camera)
    result = refiner(features).refine(query, moved(T_TRUE, 0.01, 0.5)[None], AMPLE)
    assert torch.isfinite(result.T_map_cam).all()
    thin = Query(torch.zeros(3, 1, 5), Camera(5, 1, 3.0, 3.0, 2.0, 0.0), HISTOGRAM)
    assert refiner(torch.ones(1, CHANNELS, 1, 5)).refine(thin, T_TRUE[None], AMPLE).failed


def test_settings_are_read_from_plain_mappings_and_checked():
    assert from_mapping(AlignSettings, to_mapping(AlignSettings()), 'here') == AlignSettings()
    changed = from_mapping(AlignSettings, {'rays': 256, 'kernel': {'shape': 1.0}}, 'here')
    assert changed.rays == 256 and changed.kernel.shape == 1
    with pytest.raises(AprlocError, match='pooling is 0'):
        from_mapping(AlignSettings, {'pooling': 0}, 'here')
    assert replace(AlignSettings(), seed=3).seed == 3
