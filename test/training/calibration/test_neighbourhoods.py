"""A map without the neighbourhood of a query: the same as one that was built without these views, and how remote it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nre_fixtures import cloud

from aprloc_ros.geometry import pose, so3_exp
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.patches import SIDE, Patches
from aprloc_ros.points import FARTHEST, MapPoints
from aprloc_ros.training.calibration.neighbourhoods import without_neighbourhood, without_views


def at(x_m=0.0, turn_rad=0.0):
    return pose(so3_exp(torch.tensor([0.0, turn_rad, 0.0], dtype=torch.float64)), torch.tensor([x_m, 0.0, 0.0], dtype=torch.float64))


def drive(views=6):
    """Views a metre apart; view v sees the points 2 v to 2 v + 3, which are 4 m ahead of it, so neighbours share two."""
    base = cloud(2 * views + 2)
    xyz = torch.stack([torch.arange(2 * views + 2).double() / 2 - 0.75, torch.zeros(2 * views + 2), torch.full((2 * views + 2,), 4.0)], 1)
    seen = torch.cat([2 * v + torch.arange(4) for v in range(views)])
    return replace(base, xyz=xyz, view_poses=torch.stack([at(float(v)) for v in range(views)]),
                   view_offsets=4 * torch.arange(views + 1), view_points=seen)


def test_what_is_left_is_what_the_other_views_saw():
    points = drive()
    left = without_views(points, torch.tensor([1, 2]))
    kept = [0, 1, 2, 3, 6, 7, *range(8, 14)]   # 4 and 5 were seen by views 1 and 2 alone
    assert torch.equal(left.xyz, points.xyz[kept]) and torch.equal(left.fine, points.fine[kept])
    assert torch.equal(left.view_poses, points.view_poses[[0, 3, 4, 5]])
    for new, old in enumerate([0, 3, 4, 5]):
        assert torch.equal(left.xyz[left.of_view(new)], points.xyz[points.of_view(old)])


def test_nothing_left_out_is_the_map_itself():
    points = drive()
    same = without_views(points, torch.zeros(0, dtype=torch.int64))
    assert all(torch.equal(getattr(same, name), getattr(points, name)) for name in MapPoints.__dataclass_fields__ if name != 'patches')
    assert same.patches is None


def test_patches_go_with_their_points_and_with_the_views_that_they_were_cut_from():
    points = drive()
    on = torch.tensor([1, 4, 5, 9])
    patches = Patches(on, points.xyz[on], torch.zeros(4, 2, 3), torch.arange(4, dtype=torch.uint8)[:, None, None].expand(4, SIDE, SIDE),
                      torch.tensor([0, 1, 2, 4]))
    left = without_views(replace(points, patches=patches), torch.tensor([1, 2]))   # 4 and 5 are gone
    assert torch.equal(left.xyz[left.patches.point], points.xyz[[1, 9]]) and torch.equal(left.patches.centre, points.xyz[[1, 9]])
    assert left.patches.luminance[:, 0, 0].tolist() == [0, 3] and left.patches.view.tolist() == [0, 2]
    cut_there = replace(points, patches=replace(patches, view=torch.tensor([1, 1, 2, 4])))
    assert without_views(cut_there, torch.tensor([1, 2])).patches.luminance[:, 0, 0].tolist() == [3]
    unknown = replace(points, patches=replace(patches, view=torch.full((4,), -1)))   # of an older version
    assert without_views(unknown, torch.tensor([1, 2])).patches.luminance[:, 0, 0].tolist() == [0, 3]


def test_a_neighbourhood_is_of_the_nearest_views_and_at_most_half_of_them():
    bundle = MapBundle(None, None, None, Path(), None, drive())
    assert without_neighbourhood(bundle, at(2.1), 0) is bundle
    assert without_neighbourhood(bundle, at(2.1), 2).points.view_poses[:, 0, 3].tolist() == [0, 1, 4, 5]
    assert len(without_neighbourhood(bundle, at(2.1), 20).points.view_poses) == 3


def test_remoteness_is_an_angle():
    points = replace(drive(1), xyz=torch.tensor([[0.0, 0.0, 4.0]]).double().expand(4, 3))
    assert points.remoteness(at()) == pytest.approx(0, abs=1e-9)
    assert points.remoteness(at(turn_rad=0.3)) == pytest.approx(0.3)
    assert points.remoteness(at(1.0)) == pytest.approx(1 / 4)   # a metre, of what is four metres away
    assert points.remoteness(at(-1.0, -0.3)) == pytest.approx(1 / 4 + 0.3)
    assert points.remoteness(at(1000.0)) == FARTHEST
    assert without_views(points, torch.tensor([0])).remoteness(at()) == FARTHEST


def test_remoteness_is_of_the_nearest_view_in_any_unit():
    points = drive()
    larger = replace(points, xyz=100 * points.xyz, view_poses=points.view_poses.clone())
    larger.view_poses[:, :3, 3] *= 100
    assert points.remoteness(at(2.2)) == pytest.approx(larger.remoteness(at(220.0)))
    assert points.remoteness(at(2.2)) < points.remoteness(at(2.4)) < points.remoteness(at(7.0))
