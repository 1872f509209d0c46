"""Teaching a regressor: what its loss weighs, where its gradient leads, and that steps in front of a known wall help."""

from contextlib import nullcontext

import pytest
import torch
from field_fixtures import seeded
from refine_fixtures import HISTOGRAM, SCENE, moved, true_pose, wavy_wall
from torch import nn

from aprloc_ros.camera import Camera
from aprloc_ros.fields.views import render_view
from aprloc_ros.geometry import pose_errors
from aprloc_ros.networks import CoordinateRegressor, to_T
from aprloc_ros.training.images.synthesis import Renderer
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages import adaptation
from aprloc_ros.training.stages.adaptation import (
    AdaptationTraining,
    Material,
    adapt_regressor,
    adaptation_loss,
    rehearse,
)
from aprloc_ros.training.stages.loop import Loop, make_fabric, step_generator
from aprloc_ros.training.stages.losses import pose_loss
from aprloc_ros.training.stages.matching import PhotometricMatching

FIELD, T_TRUE = wavy_wall(24, 12), true_pose()
CAMERA = Camera(40, 30, 35.0, 35.0, 19.5, 14.5)
pytestmark = pytest.mark.usefixtures('one_thread')


class Regressor(nn.Module):
    """Says about the same pose of every image, at first."""

    def __init__(self, T_map_cam):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=8), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, 12)
        self.body[0].weight.data.normal_(std=0.1, generator=seeded(2))
        self.head.weight.data.normal_(std=1e-3, generator=seeded(1))
        with torch.no_grad():
            self.head.bias.copy_(SCENE.pose_to_scene(T_map_cam)[:3].flatten())

    def forward(self, image):
        return self.head(self.body(image)).unflatten(-1, (3, 4))


class Unsure(CoordinateRegressor):
    """Says one pose, and in the length of its 3x3 how many of its cells agree."""

    def __init__(self, T_map_cam, share):
        super().__init__(prototypes=1, hidden=1)
        raw = SCENE.pose_to_scene(T_map_cam)[:3].float()
        self.raw = nn.Parameter(torch.cat([share * raw[:, :3], raw[:, 3:]], 1))

    def forward(self, image):
        return self.raw.expand(len(image), 3, 4)


class Constant:
    """A matching that costs the same everywhere."""

    def __init__(self, cost):
        self.cost = cost

    def loss(self, index, T_map_cam):
        return self.cost + 0 * T_map_cam.sum()


def views(*poses):
    images = torch.stack([render_view(FIELD, SCENE, CAMERA, T, HISTOGRAM)[0] for T in poses])
    return Views(CAMERA, (255 * images).byte(), torch.ones(len(poses), 30, 40, dtype=torch.bool), HISTOGRAM.expand(len(poses), 10),
                 torch.stack(poses))


def loss_of(model, material, config, seed=0):
    loss, _ = adaptation_loss(model.eval(), material, SCENE, config, seeded(seed), nullcontext)
    return loss


def taught(regressor, material, directory, **changes):
    config = AdaptationTraining(**{'steps': 30, 'learning_rate': 3e-3, **changes})
    return adapt_regressor(make_fabric('cpu'), regressor, material, SCENE, config, 0, directory)


def error(model, seen):
    with torch.no_grad():
        T = SCENE.pose_to_map(to_T(model.eval()(seen.images.float() / 255)))
    return torch.stack(pose_errors(T, seen.T_map_cam)).mean(1)


def test_known_poses_weigh_seven_tenths_and_matching_three_and_unknown_ones_are_matched_alone():
    """Direct-PoseNet sections 3.2, 3.3 and 4.1."""
    seen, model = views(T_TRUE), Regressor(moved(T_TRUE, 0.3, 5.0)).eval()
    with torch.no_grad():
        pose = pose_loss(model(seen.images.float() / 255), SCENE.pose_to_scene(seen.T_map_cam)[:, :3].float()).item()
    known, unknown = torch.tensor([True]), torch.tensor([False])
    config = AdaptationTraining()
    assert loss_of(model, Material(seen, known, Constant(2.0)), config).item() == pytest.approx(0.7 * pose + 0.3 * 2.0, rel=1e-5)
    assert loss_of(model, Material(seen, unknown, Constant(2.0)), config).item() == pytest.approx(2.0)
    assert loss_of(model, Material(seen, known), config).item() == pytest.approx(pose, rel=1e-5)
    # A batch of both is the mean of both.
    both = Material(views(T_TRUE, T_TRUE), torch.tensor([True, False]), Constant(2.0))
    picked = torch.randint(2, (8,), generator=seeded(3))
    share = (picked == 0).double().mean().item()
    expected = share * (0.7 * pose + 0.6) + (1 - share) * 2.0
    assert loss_of(model, both, AdaptationTraining(batch=8), 3).item() == pytest.approx(expected, rel=1e-4)


def test_how_sure_a_regressor_of_coordinates_is_is_no_error_of_its_pose():
    seen, model = views(T_TRUE), Unsure(T_TRUE, 0.4)
    known = Material(seen, torch.tensor([True]), None, seen)
    assert loss_of(model, known, AdaptationTraining()).item() == pytest.approx(0, abs=1e-5)
    off = Unsure(moved(T_TRUE, 0.2, 0.0), 0.4)
    loss = loss_of(off, known, AdaptationTraining())
    assert loss.item() == pytest.approx(2 * 0.2 / SCENE.pose_unit_m, rel=1e-4)
    loss.backward()
    # All of the slope is along the way to the truth.
    assert off.raw.grad[:, 3].norm() == pytest.approx(2, rel=1e-3) and off.raw.grad[:, :3].norm() < 0.1


def test_the_gradient_reaches_the_weights_through_the_rendering():
    seen, model = views(T_TRUE), Regressor(moved(T_TRUE, 0.1, 2.0))
    material = Material(seen, torch.tensor([False]), PhotometricMatching(FIELD, SCENE, seen, 15))
    config, step = AdaptationTraining(), 1e-3
    loss_of(model, material, config).backward()
    bias, gradient = model.head.bias, model.head.bias.grad.clone()
    numeric = torch.zeros(12)
    with torch.no_grad():
        for i in range(12):
            bias[i] += step
            numeric[i] = loss_of(model, material, config)
            bias[i] -= 2 * step
            numeric[i] = (numeric[i] - loss_of(model, material, config)) / (2 * step)
            bias[i] += step
    assert torch.nn.functional.cosine_similarity(gradient, numeric, dim=0) > 0.98
    assert model.body[0].weight.grad.abs().max() > 0


def test_images_without_poses_teach_by_colour(tmp_path):
    seen, before = views(T_TRUE), Regressor(moved(T_TRUE, 0.1, 3.0))
    material = Material(seen, torch.tensor([False]), PhotometricMatching(FIELD, SCENE, seen, 15))
    weights = {key: value.clone() for key, value in before.state_dict().items()}
    after = taught(before, material, tmp_path, steps=200)
    assert (error(after, seen) < 0.5 * error(before, seen)).all()
    assert all(torch.equal(value, weights[key]) for key, value in before.state_dict().items())
    # Batch normalisation is frozen.
    assert torch.equal(after.body[1].running_mean, before.body[1].running_mean)


def test_a_gradient_that_is_not_finite_moves_nothing(tmp_path):
    seen, before = views(T_TRUE), Regressor(T_TRUE)
    after = taught(before, Material(seen, torch.tensor([False]), Constant(float('nan'))), tmp_path, steps=3)
    assert torch.equal(after.head.bias, before.head.bias)


def test_an_interrupted_adaptation_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    seen, before = views(T_TRUE, moved(T_TRUE, 0.2, 4.0)), Regressor(moved(T_TRUE, 0.3, 5.0))
    material = Material(seen, torch.tensor([True, True]), None, rehearsed_views(6))
    whole = taught(before, material, folder(tmp_path / 'whole'), turn_deg=5.0, colour_jitter=1.0, batch=2, steps=10)
    with monkeypatch.context() as patched:
        patched.setattr(Loop.__init__, '__defaults__', (0.0,))   # a checkpoint after each step
        patched.setattr(adaptation, 'step_generator', interrupted_at(4))
        with pytest.raises(KeyboardInterrupt):
            taught(before, material, folder(tmp_path / 'parts'), turn_deg=5.0, colour_jitter=1.0, batch=2, steps=10)
    resumed = taught(before, material, tmp_path / 'parts', turn_deg=5.0, colour_jitter=1.0, batch=2, steps=10)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))


def test_known_poses_and_rehearsal_teach(tmp_path):
    seen, before = views(T_TRUE, moved(T_TRUE, 0.2, 4.0)), Regressor(moved(T_TRUE, 0.5, 8.0))
    rehearsal = rehearsed_views(8)
    after = taught(before, Material(seen, torch.tensor([True, True]), None, rehearsal), tmp_path, batch=4, steps=100)
    assert (error(after, seen) < 0.6 * error(before, seen)).all() and (error(after, rehearsal) < error(before, rehearsal)).all()


def test_rehearsed_views_are_near_the_map_and_at_the_exposures_of_the_drive():
    rehearsal = rehearsed_views(20)
    distance_m, angle_deg = pose_errors(rehearsal.T_map_cam, T_TRUE.expand(20, 4, 4))
    assert rehearsal.images.shape == (20, 3, 30, 40) and (rehearsal.histograms == HISTOGRAM).all()
    assert 0.1 < distance_m.max() <= 0.3 * SCENE.pose_unit_m and 2.0 < angle_deg.max() <= 10.0


def rehearsed_views(count):
    config = AdaptationTraining(rehearsed=count)
    return rehearse(Renderer(FIELD, SCENE, CAMERA, 15), T_TRUE[None], HISTOGRAM[None], config, 0)


def folder(path):
    path.mkdir()
    return path


def interrupted_at(last):
    def generator(fabric, seed, step):
        if step == last:
            raise KeyboardInterrupt
        return step_generator(fabric, seed, step)
    return generator
