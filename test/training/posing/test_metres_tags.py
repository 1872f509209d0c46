"""Metres from tags, in images that the exact camera took of them."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from metres_fixtures import LEVEL, posed, scale_error

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, so3_exp
from aprloc_ros.training.place.tags import paste, tag_pose
from aprloc_ros.training.posing.metres.tags import find_tags, measure_tags

SIDE_M = 0.16
CAMERA = Camera(320, 240, 252.0, 252.0, 160.7, 118.4)


def developed(image, seed):
    """As a lens and a sensor leave it: blurred by half a pixel, with noise of two grey levels."""
    blurred = cv2.GaussianBlur(image, (0, 0), 0.5).astype(float)
    return (blurred + 2 * np.random.default_rng(seed).standard_normal(image.shape)).clip(0, 255).round().astype(np.uint8)


def walk(count=36):
    """Cameras in an arc before a wall, which look at it."""
    angles = torch.linspace(-0.6, 0.6, count, dtype=torch.float64)
    zero = torch.zeros_like(angles)
    R = so3_exp(torch.stack([zero, zero, angles], 1)) @ so3_exp(torch.stack([zero, 0.1 * torch.sin(9 * angles), zero], 1)) @ LEVEL
    xyz = torch.stack([2 - 2.0 * angles.cos(), -2.0 * angles.sin(), 1 + 0.1 * torch.sin(5 * angles)], 1)
    return pose(R, xyz)


def photographs(T_world_cam, tags, dictionary='APRILTAG_36h11', seed=0):
    """tags: number -> (pose, side)."""
    wall = cv2.resize(np.random.default_rng(7).integers(60, 200, (24, 32, 3), np.uint8), (CAMERA.width, CAMERA.height))
    images = []
    for index, T in enumerate(T_world_cam):
        image = wall
        for number, (T_world_tag, side_m) in tags.items():
            image = paste(image, CAMERA, T, T_world_tag, side_m, number, dictionary)
        images.append(developed(image, 100 * seed + index))
    return images


TWO = {3: (tag_pose([2.1, 0.25, 1.1], [-1, 0.1]), SIDE_M), 11: (tag_pose([2.2, -0.3, 0.9], [-1, -0.2]), SIDE_M)}


def with_cameras(images):
    return replace(images, cameras=(CAMERA,) * len(images.names))


def test_two_tags_give_the_scale_within_a_percent_and_its_deviation_is_right():
    T, squares = walk(16), []
    for seed in range(3):
        images = photographs(T, TWO, seed=seed)
        found = measure_tags(with_cameras(posed(None, T, 0.003, 0.001, seed)), SIDE_M, images.__getitem__)
        assert abs(scale_error(found.change)) < 0.01
        squares.append((scale_error(found.change) / found.change.scale_sd) ** 2)
    assert 0.01 < sum(squares) / len(squares) < 3   # 3 of a chi-square with one degree of freedom
    assert 'APRILTAG_36h11: 3, 11 of 160 mm' in found.text


@pytest.mark.parametrize('dictionary', ['5X5_250', 'APRILTAG_25h9'])
def test_the_dictionary_is_found(dictionary):
    T = walk(6)
    name, seen = find_tags(with_cameras(posed(None, T)), photographs(T, TWO, dictionary).__getitem__)
    assert name == dictionary
    assert set(seen) == {3, 11}


def test_tags_of_two_sizes_one_tag_and_none():
    T = walk(12)
    images = with_cameras(posed(None, T))
    other = {**TWO, 11: (TWO[11][0], 1.25 * SIDE_M)}
    with pytest.raises(AprlocError, match='not of one side: 11 is 1.2'):
        measure_tags(images, SIDE_M, photographs(T, other).__getitem__)
    assert 'a wrong side would not be noticed' in measure_tags(images, SIDE_M, photographs(T, {3: TWO[3]}).__getitem__).text
    with pytest.raises(AprlocError, match='no AprilTags or ArUco markers'):
        measure_tags(images, SIDE_M, photographs(T, {}).__getitem__)
    with pytest.raises(AprlocError, match='must be 0.001 to 10 m'):
        measure_tags(images, math.nan, None)


def test_a_number_that_hangs_in_two_places_is_asked_about():
    """Either is seen in half of the images, never both at once."""
    T = walk(16)
    here, there = (photographs(T, {3: TWO[number]}) for number in TWO)
    with pytest.raises(AprlocError, match='none of 3 well enough .* does one number hang in two places'):
        measure_tags(with_cameras(posed(None, T)), SIDE_M, [*here[:8], *there[8:]].__getitem__)


def test_an_opencv_that_reads_no_tags_is_named(monkeypatch):
    monkeypatch.setattr(cv2, 'aruco', None)
    with pytest.raises(AprlocError, match='OpenCV 4.7 or newer, this is'):
        find_tags(with_cameras(posed(None, walk(3))), lambda index: np.zeros((240, 320, 3), np.uint8))


def test_tags_that_are_passed_once_are_found():
    """Of many images some are looked at first, and of these none sees a tag."""
    T = walk(60)
    images = [*photographs(T[:1], {}), *photographs(T[1:4], TWO), *56 * photographs(T[:1], {})]
    name, seen = find_tags(with_cameras(posed(None, T)), images.__getitem__)
    assert name == 'APRILTAG_36h11' and {tag: [one.view for one in sightings] for tag, sightings in seen.items()} == {3: [1, 2, 3], 11: [1, 2, 3]}


def test_a_tag_in_two_views_is_too_little():
    T = walk(2)
    with pytest.raises(AprlocError, match='well enough in 3 images'):
        measure_tags(with_cameras(posed(None, T)), SIDE_M, photographs(T, TWO).__getitem__)
