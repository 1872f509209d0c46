"""Up, by level cameras: exact and with some that roll."""

import math

import pytest
import torch

from aprloc_ros.geometry import pose, so3_exp
from aprloc_ros.placement.upright import rotation_between, up_of_cameras

LEVEL = torch.tensor([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64)   # looks along x, z is up
FRAME = so3_exp(torch.tensor([0.7, -0.4, 1.2], dtype=torch.float64))
UP = FRAME[:, 2]


def cameras(headings, pitch, roll):
    """[N, 4, 4] in a turned frame; each an array of radians."""
    zero = torch.zeros_like(headings)
    turned = so3_exp(torch.stack([zero, zero, headings], 1)) @ so3_exp(torch.stack([zero, pitch, zero], 1))
    R = FRAME @ turned @ so3_exp(torch.stack([roll, zero, zero], 1)) @ LEVEL
    return pose(R, torch.zeros(len(R), 3, dtype=torch.float64))


def test_level_cameras_say_where_up_is_whatever_they_pitch():
    headings = torch.linspace(0, 3, 50, dtype=torch.float64)
    up, sd = up_of_cameras(cameras(headings, 0.3 * torch.sin(7 * headings), torch.zeros_like(headings)))
    assert torch.allclose(up, UP, atol=1e-7)
    assert sd < 1e-6


def test_a_fifth_of_them_on_their_side_does_not_matter_and_the_deviation_is_right():
    errors = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        headings = torch.rand(60, generator=generator, dtype=torch.float64) * 6
        roll = 0.02 * torch.randn(60, generator=generator, dtype=torch.float64)
        roll[:12] += math.pi / 2
        up, sd = up_of_cameras(cameras(headings, torch.zeros(60, dtype=torch.float64), roll))
        angle = torch.acos((up @ UP).clamp(-1, 1)).item()
        assert math.degrees(angle) < 1.5
        errors.append((angle / sd) ** 2)
    assert 0.5 < sum(errors) / len(errors) / 2 < 3   # two directions


def test_where_all_look_the_same_way_their_y_axes_decide():
    headings = torch.zeros(10, dtype=torch.float64)
    up, sd = up_of_cameras(cameras(headings, headings, headings))
    assert torch.allclose(up, UP)
    assert sd == 1.0


@pytest.mark.parametrize('b', [[0, 0, 1.0], [0, 0, -1.0], [0.6, 0, 0.8]])
def test_the_rotation_between_two_directions(b):
    a, b = torch.tensor([0, 0, 1.0], dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    R = rotation_between(a, b)
    assert torch.allclose(R @ a, b)
    assert torch.allclose(R @ R.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(R) > 0
