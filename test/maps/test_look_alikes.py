"""A map with two rooms that look alike: what an image of one of them says, with and without somebody who knows where to look."""

import pytest
import torch
from nre_fixtures import NO_START, Painter, cloud, query, truth

from aprloc_ros.points import MapPoints
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.refinement.refined import Budget

APART_M = torch.tensor([12.0, 0.0, 0.0], dtype=torch.float64)


def two_rooms(alike, count=600):
    """The cloud, and beside it another whose points have that share of the first one's descriptors; each with its views."""
    here, other = cloud(count), cloud(count, seed=9)
    same = torch.rand(count, 1, generator=torch.Generator().manual_seed(5)) < alike
    views = len(here.view_poses)
    there = here.view_poses.clone()
    there[:, :3, 3] += APART_M
    return MapPoints(torch.cat([here.xyz, here.xyz + APART_M]),
                     *(torch.cat([mine, torch.where(same, mine, its)]) for mine, its in ((here.coarse, other.coarse), (here.fine, other.fine))),
                     torch.cat([here.view_poses, there]), torch.arange(2 * views + 1) * count,
                     torch.cat([torch.arange(count).repeat(views), count + torch.arange(count).repeat(views)]))


def ask(alike, seed, start):
    """The refiner's answer to an image of the first room -> its distance from the truth, and how much better it is than the next."""
    T = truth(seed)
    painter = Painter(cloud(600), T, outliers=0.2, noise=0.05)
    starts = NO_START if start is None else T[None].clone()
    if start == 'there':
        starts[0, :3, 3] += APART_M
    found = NreRefiner(painter, two_rooms(alike)).refine(query(), starts, Budget())
    return (found.T_map_cam[:3, 3] - T[:3, 3]).norm().item(), found.signals['agreement']


@pytest.mark.parametrize('seed', [2, 3, 4])
def test_of_two_rooms_that_look_alike_the_one_where_the_robot_was_counts(seed):
    """Before, the luck of the draw moved two of these three into the other room."""
    for start, distance_m in (('here', 0.0), ('there', 12.0)):
        found_m, better = ask(1.0, seed, start)
        assert found_m == pytest.approx(distance_m, abs=0.05) and better < 0.05


@pytest.mark.parametrize('seed', [2, 3, 4])
def test_an_image_of_rooms_that_look_alike_says_that_another_place_is_as_good(seed):
    assert ask(1.0, seed, None)[1] < 0.05


@pytest.mark.parametrize('start', [None, 'here', 'there'])
def test_rooms_of_which_a_third_differs_are_told_apart_whatever_was_believed(start):
    found_m, better = ask(0.67, 3, start)
    assert found_m < 0.05 and better > 0.1
