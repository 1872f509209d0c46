"""What matches say of an image whose upper and lower rows are of two moments, on points whose way into each is known exactly."""

import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, cloud, truth

from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.points.torn import is_torn

SEEN_BY = Pinhole.of(CAMERA.resized(160, 120))   # in fine cells
T_MAP_CAM = truth(2)
MOVES = [(0.15, 0, 0, 0, 0, 0), (0, 0, 0.25, 0, 0, 0), (0, 0, 0, 0, 0.04, 0), (0.05, -0.05, 0.1, 0.01, -0.03, 0.02)]


def matches(rows_of, seed=0, wrong=0.2):
    """Cells [N, 2], whole as the likeliest cells are, of points [N, 3], a share of them wrong; rows_of: pairs of rows (from, to) and the
    pose [4, 4] from which these were taken."""
    generator, xyz, seen = np.random.default_rng(seed), cloud(900).xyz.numpy(), []
    for (first, end), T_map_cam in rows_of:
        cells, _, inside = SEEN_BY.project(xyz, invert(T_map_cam).numpy())
        here = inside & (cells[:, 1] >= first) & (cells[:, 1] < end)
        seen.append((cells[here], xyz[here]))
    cells, xyz = (np.concatenate(part) for part in zip(*seen))
    astray = generator.random((len(cells), 1)) < wrong
    return (cells + generator.normal(0, 0.4, cells.shape) + astray * generator.uniform(-7, 7, cells.shape)).round(), xyz


def found(*rows_of, answer=T_MAP_CAM, **options):
    return is_torn(*matches(rows_of, **options), SEEN_BY, invert(answer).numpy())


def moved(move):
    return T_MAP_CAM @ se3_exp(torch.tensor(move).double())


@pytest.mark.parametrize('move', MOVES)
@pytest.mark.parametrize('line', [30, 60, 90])
def test_rows_of_two_moments_are_told_whichever_the_answer_is_of(move, line):
    torn = ((0, line), T_MAP_CAM), ((line, 120), moved(move))
    assert found(*torn) and found(*torn, answer=moved(move))


def test_a_tear_between_the_lines_is_told():
    assert found(((0, 45), T_MAP_CAM), ((45, 120), moved(MOVES[0])))


@pytest.mark.parametrize('seed', range(10))
def test_an_image_of_one_moment_is_not_torn(seed):
    assert not found(((0, 120), T_MAP_CAM), seed=seed)
    assert not found(((0, 120), T_MAP_CAM), seed=seed, answer=moved((0.01, 0, 0.01, 0, 0.002, 0)))


@pytest.mark.parametrize('seed', range(10))
def test_a_part_that_shows_something_else_is_not_torn(seed):
    """A robot's own arm, or snow: its matches are of chance."""
    cells, xyz = matches([((0, 120), T_MAP_CAM)], seed)
    covered = cells[:, 1] > 60
    cells[covered] = (cells + np.random.default_rng(seed).uniform(-7, 7, cells.shape).round())[covered]
    assert not is_torn(cells, xyz, SEEN_BY, invert(T_MAP_CAM).numpy())


def test_few_matches_tell_nothing():
    cells, xyz = matches([((0, 60), T_MAP_CAM), ((60, 120), moved(MOVES[0]))])
    T_cam_map = invert(T_MAP_CAM).numpy()
    for few in (cells[:0], xyz[:0]), (cells[-9:], xyz[-9:]), (cells[-1:].repeat(50, 0), xyz[-1:].repeat(50, 0)):
        assert not is_torn(*few, SEEN_BY, T_cam_map)
