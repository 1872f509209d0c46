"""Eq. 6 against PyTorch's sampler, and what broken starts and empty maps come to."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from nre_fixtures import Painter, cloud, query, truth
from torch.nn import functional as F

from aprloc_ros.geometry import pose_errors, se3_exp
from aprloc_ros.points import MapPoints
from aprloc_ros.refinement.loss_maps import interpolated
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.refinement.refined import Budget

PLENTY = Budget(200, 60_000.0)
NO_START = torch.zeros(0, 4, 4, dtype=torch.float64)


def test_losses_are_interpolated_as_pytorch_samples_them():
    generator = torch.Generator().manual_seed(0)
    log_maps = torch.log_softmax(6 * torch.randn(40, 7 * 9, generator=generator), 1)
    cells = torch.rand(40, 2, generator=generator) * torch.tensor([10.0, 8.0]) - 1
    inside = (cells > -0.5).all(1) & (cells < torch.tensor([8.5, 6.5])).all(1)
    truncated = (-log_maps).clamp_max(math.log(64)).view(40, 1, 7, 9)
    grid = (2 * cells + 1) / torch.tensor([9.0, 7.0]) - 1
    sampled = F.grid_sample(truncated, grid[:, None, None], padding_mode='border', align_corners=False).flatten()
    found = interpolated(log_maps, 9, cells.double().numpy(), inside.numpy())
    np.testing.assert_allclose(found[inside], sampled[inside].numpy(), rtol=1e-5, atol=1e-5)
    assert inside.any() and not inside.all()
    np.testing.assert_allclose(found[~inside], math.log(64))


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_broken_starts_are_passed_over(value):
    points, T = cloud(), truth(2)
    broken = truth(1)[None].clone()
    broken[0, 0] = value
    refiner = NreRefiner(Painter(points, T, noise=0.02), points)
    alone, without = (refiner.refine(query(), starts, PLENTY) for starts in (broken, broken[:0]))
    assert torch.equal(alone.T_map_cam, without.T_map_cam) and alone.signals == without.signals
    good = refiner.refine(query(), torch.cat([broken, T[None]]), PLENTY)
    assert pose_errors(good.T_map_cam, T)[0] < 0.01 and math.isfinite(good.cost_before)
    assert torch.isfinite(refiner.refine(query(), broken, Budget(0, 1.0)).T_map_cam).all()


def test_a_map_without_views_fails():
    points = cloud()
    none = MapPoints(points.xyz[:0], points.coarse[:0], points.fine[:0], points.view_poses[:0],
                     torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    found = NreRefiner(Painter(points, truth(2)), none).refine(query(), NO_START, PLENTY)
    assert found.failed and torch.equal(found.T_map_cam, torch.eye(4, dtype=torch.float64))


def test_agreement_is_less_where_another_pose_explains_much():
    """Hypotheses of the losing pose must survive to be compared with: a repeated place is not a sure one."""
    points, T = cloud(), truth(1)
    other = T @ se3_exp(torch.tensor([1.2, 0.3, 0.0, 0.0, 0.25, 0.1], dtype=torch.float64))
    right, wrong = Painter(points, T, noise=0.02), Painter(points, other, noise=0.02)
    sure = NreRefiner(right, points).refine(query(), NO_START, PLENTY)
    mixed = {level: F.normalize(getattr(right.features, level) + 0.9 * getattr(wrong.features, level), dim=1) for level in ('coarse', 'fine')}
    right.features = replace(right.features, **mixed)
    torn = NreRefiner(right, points).refine(query(), NO_START, PLENTY)
    assert pose_errors(torn.T_map_cam, T)[0] < 0.05
    assert torn.signals['agreement'] < sure.signals['agreement'] - 0.2 and sure.signals['agreement'] < 1
