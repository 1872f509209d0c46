"""The map's points: what they forget when packed, how they are chosen, and who sees them."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose, se3_exp
from aprloc_ros.networks.extractor import Extractor
from aprloc_ros.points import MapPoints, pack_points, unpack_points
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.points import build_points
from aprloc_ros.training.structure.depth_points import points_from_depths

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)


def unit(*shape):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))), dim=1)


def row_of_views(count):
    """Cameras side by side, 0.2 m apart, that look at the plane z = 2."""
    T = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    T[:, 0, 3] = 0.2 * torch.arange(count)
    return T


def random_views(count):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 48, 64), generator=generator, dtype=torch.uint8)
    return Views(CAMERA, images, torch.ones(count, 48, 64, dtype=torch.bool), torch.full((count, 10), 0.1),
                 row_of_views(count))


def plane_points(count, views):
    """Points of the plane z = 2 and who sees them, by projection."""
    xyz = torch.rand(count, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    xyz = xyz * torch.tensor([2.0, 1.0, 0.0]) + torch.tensor([-0.5, -0.5, 2.0])
    seen = [CAMERA.project(xyz - T[:3, 3])[1] for T in views.T_map_cam]
    return SparsePoints(xyz, torch.stack(seen).nonzero())


@pytest.fixture(scope='module')
def points():
    poses = se3_exp(torch.randn(3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    xyz = 50 * torch.randn(20, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return MapPoints(xyz, unit(20, 12), unit(20, 6), poses, torch.tensor([0, 4, 4, 9]),
                     torch.tensor([1, 3, 5, 7, 0, 1, 2, 18, 19]))


def test_views_keep_their_place_in_coordinates_of_a_survey(points, tmp_path):
    """Millions of metres from the origin, where single precision knows half metres."""
    far = torch.tensor([500_000.1, 5_400_000.2, 300.3], dtype=torch.float64)
    views = pose(points.view_poses[:, :3, :3], points.view_poses[:, :3, 3] + far)
    save_file(pack_points(replace(points, xyz=points.xyz + far, view_poses=views)), tmp_path / 'points.safetensors')
    found = unpack_points(load_file(tmp_path / 'points.safetensors'), 'here')
    torch.testing.assert_close(found.view_poses, views, atol=1e-9, rtol=0)
    assert (found.xyz - far - points.xyz).abs().max() < 0.01


def test_packing_loses_little(points):
    found = unpack_points(pack_points(points), 'here')
    span_m = points.xyz.amax(0) - points.xyz.amin(0)
    assert ((found.xyz - points.xyz).abs() <= span_m / 65534 * 1.001).all()
    for name in ('coarse', 'fine'):
        assert ((getattr(found, name) * getattr(points, name)).sum(1) > 0.999).all()
    torch.testing.assert_close(found.view_poses, points.view_poses, atol=1e-6, rtol=1e-6)
    assert torch.equal(found.view_offsets, points.view_offsets) and torch.equal(found.view_points, points.view_points)


def test_points_of_views(points):
    assert [points.of_view(view).tolist() for view in range(3)] == [[1, 3, 5, 7], [], [0, 1, 2, 18, 19]]


@pytest.mark.parametrize('damage', [
    lambda t: t.pop('fine'), lambda t: t.update(fine=t['fine'][1:]), lambda t: t.update(view_points=t['view_points'] + 19),
    lambda t: t.update(view_counts=t['view_counts'] - 1), lambda t: t.update(centre=t['centre'] * float('nan')),
    lambda t: t.update(view_poses=t['view_poses'][:, :2]), lambda t: t.update(xyz=t['xyz'][:, :2]),
    lambda t: t.update(frame_scale=t['centre'][:1] * float('nan')),
    lambda t: t.update(frame_scale=torch.ones(1), frame_rotation=torch.zeros(3, 3), frame_translation=torch.zeros(3))])
def test_damaged_points_are_refused_in_one_line(points, damage):
    tensors = pack_points(points)
    damage(tensors)
    with pytest.raises(AprlocError, match='^here: ') as error:
        unpack_points(tensors, 'here')
    assert '\n' not in str(error.value)


def test_chosen_points_cover_the_views():
    torch.manual_seed(0)
    views = random_views(4)
    sparse = plane_points(300, views)
    extractor = Extractor(coarse_channels=16, fine_channels=8).eval()
    everything = build_points(extractor, views, sparse, 1000, show=False)
    chosen = build_points(extractor, views, sparse, 20, show=False)
    assert len(chosen) == 20 and len(everything) <= 300
    position = {tuple(xyz): index for index, xyz in enumerate(sparse.xyz.tolist())}
    seen = {(view, point) for view, point in sparse.observations.tolist()}
    for view in range(4):
        for point in chosen.of_view(view).tolist():
            assert (view, position[tuple(chosen.xyz[point].tolist())]) in seen
    # Spread over the plane, not in one corner: the chosen points span most of what all of them span.
    span, whole = (p.xyz[:, :2].amax(0) - p.xyz[:, :2].amin(0) for p in (chosen, everything))
    assert (span > 0.6 * whole).all()


def test_a_point_seen_by_one_view_has_that_views_descriptor():
    torch.manual_seed(0)
    views = random_views(1)
    sparse = plane_points(100, views)
    extractor = Extractor(coarse_channels=16, fine_channels=8).eval()
    found = build_points(extractor, views, sparse, 1000, show=False)
    features = extractor(views.images.float() / 255)
    pixels, _ = CAMERA.project(found.xyz)
    grid = ((2 * pixels + 1) / torch.tensor([64, 48]) - 1).float()[None, None]
    for maps, mine in ((features.coarse, found.coarse), (features.fine, found.fine)):
        theirs = F.grid_sample(maps, grid, align_corners=False, padding_mode='border')[0, :, 0].T
        assert (F.cosine_similarity(theirs, mine) > 0.9999).all()


def test_points_from_depth_lie_on_the_surface_and_know_their_views():
    """Two planes: the near one hides part of the far one from one of the views."""
    T = torch.stack([torch.eye(4, dtype=torch.float64), pose(torch.eye(3, dtype=torch.float64), torch.tensor([0.6, 0.0, 0.0]).double())])
    views = Views(CAMERA, torch.zeros(2, 3, 48, 64, dtype=torch.uint8), torch.ones(2, 48, 64, dtype=torch.bool),
                  torch.full((2, 10), 0.1), T)

    def depth(view):   # near plane z = 1 where x < 0, far plane z = 3 elsewhere
        x = CAMERA.directions()[..., 0] + T[view, 0, 3]
        return torch.where(x < 0, 1.0, 3.0)
    found = points_from_depths(torch.stack([depth(0), depth(1)]).float(), views, torch.tensor([0, 1]), 400,
                               torch.Generator().manual_seed(0))
    assert len(found.xyz) == 800 and ((found.xyz[:, 2] - 1).abs().minimum((found.xyz[:, 2] - 3).abs()) < 1e-6).all()
    for view, point in found.observations.tolist():
        cam = invert(T[view]) @ torch.cat([found.xyz[point], torch.ones(1)])
        (u, v), inside = CAMERA.project(cam[:3])
        assert inside and abs(depth(view)[int(v.round()), int(u.round())] / cam[2] - 1) < 0.03
    own = found.observations[found.observations[:, 0] == 0, 1]
    assert set(range(400)) <= set(own.tolist())   # a view sees its own points
