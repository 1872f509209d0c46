"""Rays that are chosen, and the points that they meet, against a wall whose shape is known."""

import pytest
import torch
from field_fixtures import Analytic
from refine_fixtures import CAMERA, CHANNELS, HISTOGRAM, SCENE, moved, seeded, true_pose, wavy_wall

from aprloc_ros.camera import Camera
from aprloc_ros.refinement.rendering.surface import choose_pixels, render_surface


def pixels(count=300, seed=0):
    return choose_pixels(torch.ones(CAMERA.height, CAMERA.width), count, seeded(seed))


def rendered(field, T, chosen=None):
    with torch.no_grad():
        return render_surface(field, SCENE, CAMERA, pixels() if chosen is None else chosen, T, HISTOGRAM)


def test_points_lie_on_the_wall_and_on_their_rays_for_every_pose():
    field = wavy_wall()
    T = torch.stack([true_pose(), moved(true_pose(), 0.3, 10.0)])
    surface = rendered(field, T)
    in_scene = SCENE.points_to_scene(surface.points)
    wall = 1.2 + 0.25 * torch.sin(2.1 * in_scene[..., 0]) * torch.cos(1.7 * in_scene[..., 1] + 0.4)
    assert (in_scene[..., 2] - wall).abs().median() * SCENE.scene_unit_m < 0.02
    in_camera = (surface.points - T[:, None, :3, 3]) @ T[:, :3, :3]
    projected, seen = CAMERA.project(in_camera)
    assert seen.all()
    torch.testing.assert_close(projected, pixels().expand(2, -1, -1), rtol=0, atol=1e-3)
    torch.testing.assert_close(surface.depth_m.double(), in_camera[..., 2], rtol=1e-5, atol=1e-5)


def test_descriptors_are_the_walls_features():
    field = wavy_wall()
    surface = rendered(field, true_pose()[None])
    expected = field.feature(SCENE.points_to_scene(surface.points).float())
    assert surface.descriptors.shape == (1, 300, CHANNELS)
    assert (surface.descriptors - expected).abs().median() < 0.02


def test_a_sharp_wall_weighs_one():
    assert rendered(wavy_wall(), true_pose()[None], torch.tensor([[80.0, 60.0], [0.0, 0.0]]).double()).weights.min() > 0.95


def test_fog_and_emptiness_weigh_little():
    T, feature = true_pose()[None], lambda points: points
    fog = Analytic(lambda points: torch.full_like(points[..., 0], 3.0), coarse_samples=128, feature=feature)
    surface = rendered(fog, T)
    assert (surface.opacity > 0.9).all() and surface.weights.max() < 0.15
    nothing = Analytic(lambda points: torch.zeros_like(points[..., 0]), coarse_samples=128, feature=feature)
    surface = rendered(nothing, T)
    assert surface.weights.max() == 0 and surface.opacity.max() == 0 and torch.isfinite(surface.points).all()
    assert surface.median_depth_m.item() == 0


def test_half_transparent_walls_are_where_they_are_though_light_passes():
    """The light that goes on to the backdrop dims a point's weight but does not move it."""
    def veil(points):
        # Optical depth ln 2 within a hundredth of a unit: half of the light stops.
        return torch.where((points[..., 2] - 1.0).abs() < 0.005, 69.3, 0.0)
    field = Analytic(veil, coarse_samples=4000, feature=lambda points: points)
    T = SCENE.T_map_scene[None]
    surface = rendered(field, T, chosen=torch.tensor([[79.5, 59.5]]).double())
    assert surface.opacity.item() == pytest.approx(0.5, abs=0.1)
    assert surface.depth_m.item() == pytest.approx(1.0 * SCENE.scene_unit_m, rel=0.01)


@pytest.mark.parametrize('shape', [(120, 160), (31, 57), (16, 16), (300, 4)])
@pytest.mark.parametrize('count', [1, 64, 1000])
def test_pixels_are_distinct_inside_and_as_many_as_asked_for(shape, count):
    chosen = choose_pixels(torch.rand(shape, generator=seeded(1)), count, seeded(2))
    assert len(chosen) == min(count, shape[0] * shape[1])
    nearest = chosen.round()
    assert len(nearest.unique(dim=0)) == len(chosen)
    assert (nearest >= 0).all() and (nearest[:, 0] < shape[1]).all() and (nearest[:, 1] < shape[0]).all()
    if len(chosen) > 500:
        torch.testing.assert_close((chosen - nearest).mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=0.05)


def test_the_same_seed_chooses_the_same_pixels():
    assert torch.equal(pixels(seed=4), pixels(seed=4))
    assert not torch.equal(pixels(seed=4), pixels(seed=5))


def test_pixels_are_everywhere_but_prefer_what_is_strong():
    strength = torch.full((120, 160), 0.05)
    strength[:, ::4] = 1.0
    chosen = choose_pixels(strength, 600, seeded(3))
    assert (chosen[:, 0].round() % 4 == 0).double().mean() > 0.75   # a quarter of the pixels
    quadrants = 2 * (chosen[:, 1] >= 60) + (chosen[:, 0] >= 80)
    assert torch.bincount(quadrants.long(), minlength=4).min() > 110


def test_a_camera_of_another_size_sees_the_same_points():
    """The pixel convention: a ray through the centre of a 2 x 2 block is that of the halved camera's pixel."""
    half = CAMERA.resized(80, 60)
    small = torch.tensor([[10.0, 20.0], [33.0, 41.0]]).double()
    field, T = wavy_wall(), true_pose()[None]
    fine = rendered(field, T, chosen=2 * small + 0.5)
    with torch.no_grad():
        coarse = render_surface(field, SCENE, half, small, T, HISTOGRAM)
    torch.testing.assert_close(fine.points, coarse.points, rtol=0, atol=1e-5)


def test_images_of_one_pixel_are_no_trouble():
    with torch.no_grad():
        surface = render_surface(wavy_wall(), SCENE, Camera(1, 1, 1.0, 1.0, 0.0, 0.0), torch.zeros(1, 2).double(),
                                 true_pose()[None], HISTOGRAM)
    assert torch.isfinite(surface.weights).all()
