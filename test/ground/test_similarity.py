"""Similarities: closed forms and laws of composition."""

import math

import pytest
import torch

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, so3_exp
from aprloc_ros.similarity import Similarity, unchanged

QUARTER = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def some_similarity(seed):
    draw = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Similarity(math.exp(draw[0]), so3_exp(draw[1:4]), draw[4:], 0.01 * seed, f'number {seed}')


def some_poses(count, seed=0):
    draw = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return pose(so3_exp(draw[:, :3]), draw[:, 3:])


def test_a_camera_is_turned_and_moved_and_its_distance_scaled():
    T = pose(torch.eye(3, dtype=torch.float64), vector(1, 2, 3))
    moved = Similarity(2.0, QUARTER, vector(10, 0, 0), 0.01, 'by hand').apply(T[None])[0]
    assert torch.equal(moved[:3, :3], QUARTER)
    assert torch.allclose(moved[:3, 3], vector(10 - 4, 2, 6))


def test_two_in_a_row_are_one_and_a_camera_sees_its_points_where_it_did():
    first, second, poses = some_similarity(1), some_similarity(2), some_poses(5)
    both = second.after(first)
    assert torch.allclose(both.apply(poses), second.apply(first.apply(poses)))
    assert (both.scale_sd, both.source) == (second.scale_sd, second.source)
    in_camera = vector(0.1, -0.2, 1.5)
    seen = first.points((poses @ torch.cat([in_camera, vector(1)]))[:, :3])
    expected = first.apply(poses) @ torch.cat([first.scale * in_camera, vector(1)])
    assert torch.allclose(seen, expected[:, :3])


def test_unchanged_changes_nothing_and_knows_no_unit():
    poses = some_poses(3)
    assert torch.allclose(unchanged().apply(poses), poses, atol=1e-15)
    assert unchanged().scale_sd == math.inf


@pytest.mark.parametrize('scale, sd', [(0.0, 0.1), (-1.0, 0.1), (math.nan, 0.1), (math.inf, 0.1), (1.0, -0.1), (1.0, math.nan)])
def test_what_is_no_similarity_is_refused(scale, sd):
    with pytest.raises(AprlocError, match='must be'):
        Similarity(scale, QUARTER, vector(0, 0, 0), sd, '')
