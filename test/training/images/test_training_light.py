"""Random relighting in training: what it may change, and what it may not."""

import pytest
import torch
from torch.nn import functional as F

from aprloc_ros.training.images.relighting import relight


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope='module')
def images():
    return F.interpolate(torch.rand(60, 3, 6, 8, generator=generator()), (30, 40), mode='bilinear')


def test_a_seed_repeats_and_images_differ(images):
    first, again = relight(images, 1.0, generator(1)), relight(images, 1.0, generator(1))
    assert torch.equal(first, again) and not torch.equal(first, relight(images, 1.0, generator(2)))
    alike = relight(images[:1].expand(60, -1, -1, -1), 1.0, generator())
    assert alike.mean((1, 2, 3)).std() > 0.1


def test_no_strength_changes_nothing_but_the_rounding(images):
    assert (relight(images, 0.0, generator()) - images).abs().max() < 0.51 / 255


def test_things_stay_where_they_are():
    """A bright dot, under many lights, is brightest at the same place wherever it is seen well."""
    y, x = torch.meshgrid(torch.arange(31.0), torch.arange(41.0), indexing='ij')
    dot = 0.02 + 0.5 * torch.exp(-((x - 25) ** 2 + (y - 11) ** 2) / 8)
    lit = relight(dot.expand(200, 3, -1, -1), 1.0, generator()).mean(1)
    weight = (lit - lit.flatten(1).quantile(0.8, dim=1).view(-1, 1, 1)).clamp_min(0)[:, 4:19, 18:33]
    centre = torch.stack([(weight * x[4:19, 18:33]).sum((1, 2)), (weight * y[4:19, 18:33]).sum((1, 2))]) / weight.sum((1, 2))
    well = lit[:, 11, 25] > 0.3
    assert well.sum() > 100
    torch.testing.assert_close(centre[:, well].median(1).values, torch.tensor([25.0, 11.0]), atol=0.1, rtol=0)
    assert (centre[:, well] - torch.tensor([[25.0], [11.0]])).abs().max() < 1.5


def test_lights_are_of_all_kinds():
    grey = torch.full((400, 3, 24, 32), 0.7)
    lit = relight(grey, 1.0, generator())
    colourless = (lit - lit.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5
    assert 0.08 < colourless.float().mean() < 0.24
    spread = lit.mean(1).flatten(1).std(1)
    assert 0.4 < (spread > 0.03).float().mean() < 0.8          # lit unevenly
    assert lit.mean((1, 2, 3)).min() < 0.2 and (lit == 1).float().mean() > 0.05


@pytest.mark.parametrize('level', [0.0, 1.0])
def test_black_and_white_stay_in_range(level):
    lit = relight(torch.full((20, 3, 24, 32), level), 2.0, generator())
    assert torch.isfinite(lit).all() and lit.min() >= 0 and lit.max() <= 1
