"""Where points that were rendered from one pose are in the image of another, against where that pose projects them."""

import numpy as np
import pytest
import torch
from refine_fixtures import CAMERA, HISTOGRAM, SCENE, moved, query_of, seeded, true_pose, wavy_wall
from torch.nn import functional as F

from aprloc_ros.geometry import invert
from aprloc_ros.refinement.feature_grid import pooled
from aprloc_ros.refinement.rendering.surface import choose_pixels, render_surface
from aprloc_ros.refinement.rendering.surface_maps import maps_anywhere

T_TRUE = true_pose()
STARTS = torch.stack([moved(T_TRUE, 0.4, 10.0), moved(T_TRUE, 0.6, 15.0, 1)])


@pytest.fixture(scope='module')
def scene():
    """The query's unit-length features and a surface that two far poses see."""
    field = wavy_wall()
    features = F.normalize(query_of(field, T_TRUE)[1][0], dim=0)
    pixels = choose_pixels(torch.ones(CAMERA.height, CAMERA.width), 300, seeded())
    with torch.no_grad():
        return features, render_surface(field, SCENE, CAMERA, pixels, STARTS, HISTOGRAM)


def off_by(maps):
    """How far the likeliest cells of points in view are from where the true pose projects them, in cells."""
    cells, _, inside = maps.camera.project(maps.xyz, invert(T_TRUE).numpy())
    return np.linalg.norm(maps.losses.best - cells, axis=1)[inside]


def test_points_of_all_starts_are_found_anywhere(scene):
    features, surface = scene
    maps = maps_anywhere(surface, pooled(features, CAMERA, 2))
    assert (off_by(maps) < 1.5).mean() > 0.8
    assert len(maps.xyz) == (surface.weights > 0.2).sum() == sum(map(len, maps.groups))
    assert np.array_equal(maps.xyz[maps.groups[1]], surface.points[1][surface.weights[1] > 0.2].numpy())


def test_points_that_weigh_less_say_less(scene):
    features, surface = scene
    grid = pooled(features, CAMERA, 2)
    lighter = type(surface)(surface.points, surface.descriptors, 0.5 * surface.weights, surface.opacity, surface.depth_m)
    full, half = maps_anywhere(surface, grid), maps_anywhere(lighter, grid)
    kept = np.isin(full.xyz[:, 0], half.xyz[:, 0])
    np.testing.assert_allclose(half.losses.gains, 0.5 * full.losses.gains[kept], rtol=1e-5)
