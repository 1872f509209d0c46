"""Patches of a surface: kept, cut from photographs, and aligned, where the truth is exact."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from nre_fixtures import NO_START, Painter, cloud, query
from patch_fixtures import BARREL, CAMERA, near, photograph, texture, wall_z, walls
from repository import ROOT

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose_errors, se3_exp, se3_log
from aprloc_ros.patches import SIDE, pack_patches, unpack_patches
from aprloc_ros.points import MapPoints, pack_points, unpack_points
from aprloc_ros.refinement.lens_evidence import offset_camera
from aprloc_ros.refinement.luminance import Luminance
from aprloc_ros.refinement.patches.patch_metric import patch_metric
from aprloc_ros.refinement.patches.patch_views import PatchView
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.refinement.points.nre_settings import NreSettings
from aprloc_ros.refinement.refined import Budget
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.patch_map import patch_map
from aprloc_ros.training.stages.patches import build_patches

PATCHES, T_TRUE = walls(), near(1)
ROWS = np.arange(len(PATCHES))
OFF = se3_exp(torch.tensor([0.02, -0.015, 0.03, 0.004, -0.005, 0.006], dtype=torch.float64))   # 2 pixels
ORIGIN = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def aligned(image, camera=CAMERA, most=200, iterations=8, start=None):
    return patch_metric(T_TRUE @ OFF if start is None else start, PATCHES, ROWS, Luminance(image, camera), most,
                        lambda done: done < iterations)


@pytest.mark.parametrize('camera', [CAMERA, BARREL, BARREL.resized(640, 480)])
def test_the_pose_is_found_to_a_fraction_of_a_pixel(camera):
    """At 4 m a pixel of the small images is 1.5 cm."""
    metres, degrees = pose_errors(aligned(photograph(T_TRUE, camera), camera).T_map_cam, T_TRUE)
    assert metres < 0.002 and degrees < 0.02


def test_light_may_change():
    metres, degrees = pose_errors(aligned(photograph(T_TRUE, gain=0.4, bias=60)).T_map_cam, T_TRUE)
    assert metres < 0.003 and degrees < 0.03


def test_a_blurred_image_is_trusted_less():
    sharp, blurred = (aligned(image) for image in (photograph(T_TRUE), cv2.GaussianBlur(photograph(T_TRUE), (0, 0), 1.2)))
    doubt = (sharp.hessian.diagonal() / blurred.hessian.diagonal()).sqrt()
    moved = se3_log(invert(blurred.T_map_cam) @ T_TRUE)[:3].norm()   # by blur alone, which no number of patches averages out
    assert (doubt > 4).all() and moved > 2 * se3_log(invert(sharp.T_map_cam) @ T_TRUE)[:3].norm()


def test_half_of_it_may_be_hidden():
    image = photograph(T_TRUE)
    image[:, 160:] = np.random.default_rng(0).integers(0, 255, image[:, 160:].shape)
    metres, degrees = pose_errors(aligned(image, most=300).T_map_cam, T_TRUE)
    assert metres < 0.005 and degrees < 0.06


def test_another_place_is_none():
    image = photograph(T_TRUE)
    assert aligned(image[:, ::-1].copy()) is None
    assert aligned(np.full_like(image, 128)) is None
    assert aligned(image, start=T_TRUE @ se3_exp(torch.tensor([0, 0, 0, 0, 3.0, 0], dtype=torch.float64))) is None


def test_patches_of_another_sharpness_are_left_out():
    """An image with a quarter of the pixels to each side shows patches in so few that they say nothing."""
    small = cv2.resize(photograph(T_TRUE), (80, 60), interpolation=cv2.INTER_AREA)
    assert aligned(small, CAMERA.resized(80, 60)) is None


def test_the_motion_over_a_patch_is_the_derivative():
    view, step = PatchView.of(PATCHES.centre.numpy(), PATCHES.steps.double().numpy(), T_TRUE.numpy(), BARREL), 1e-5
    for axis in range(6):
        xi = torch.zeros(6, dtype=torch.float64)
        xi[axis] = step
        moved = PatchView.of(PATCHES.centre.numpy(), PATCHES.steps.double().numpy(), (T_TRUE @ se3_exp(xi)).numpy(), BARREL)
        in_patch = np.linalg.solve(view.shape, ((moved.pixels - view.pixels) / step)[..., None])[..., 0]
        seen = view.inside
        assert seen.sum() > 100
        # The lens bends a patch by a hundredth from one end to the other.
        np.testing.assert_allclose(in_patch[seen], view.jacobian[seen, :, axis], rtol=0.02, atol=0.5)


@pytest.mark.parametrize('offsets', [(0.0, 0.0, 0.0), (0.01, 0.0, 0.0), (0.0, 0.01, 0.0), (-0.02, 0.0, -0.01)])
@pytest.mark.parametrize('camera', [CAMERA, BARREL])
def test_what_the_camera_is_off_by_is_found(camera, offsets):
    true = torch.tensor(offsets, dtype=torch.float64)
    found = aligned(photograph(T_TRUE, offset_camera(camera, true)), camera, start=T_TRUE, iterations=30)
    torch.testing.assert_close(found.lens.offsets, true, atol=5e-3, rtol=0)
    assert (torch.linalg.eigvalsh(found.lens.information) > 0).all()
    if not camera.is_distorted:   # else the distortion moves with the centre, and no pose makes up for that
        moved = se3_log(invert(found.T_map_cam) @ T_TRUE)
        assert (moved - found.lens.shift @ true).norm() < 0.4 * moved.norm() + 5e-3


def test_a_right_camera_costs_one_linear_step_and_a_wrong_one_asks_the_features():
    asked = []

    def guess():
        asked.append(True)
    for true, count in ((0.0, 0), (0.02, 1)):
        image = photograph(T_TRUE, offset_camera(CAMERA, torch.tensor([true, 0.0, 0.0])))
        patch_metric(T_TRUE, PATCHES, ROWS, Luminance(image, CAMERA), 200, lambda done: done < 30, guess)
        assert len(asked) == count


def sheared(image, share):
    """As rows that were read while the camera turned sideways."""
    return cv2.warpAffine(image, np.array([[1, share, -share * CAMERA.cy], [0, 1, 0]]), image.shape[1::-1])


@pytest.mark.parametrize('image, warp', [
    (photograph(T_TRUE), (0.0, 0.0, 0.0, 0.0)), (sheared(photograph(T_TRUE), 0.02), (0.0, 0.02, 0.0, 0.0)),
    (photograph(T_TRUE, replace(CAMERA, fy=1.015 * CAMERA.fy)), (0.015, 0.0, 0.0, 0.0)),
    (photograph(T_TRUE, replace(CAMERA, model='opencv', distortion=(-0.04, 0.0, 0.0, 0.0))), (0.0, 0.0, 0.0, -0.04))])
def test_patches_tell_how_an_image_is_warped(image, warp):
    found = aligned(image, start=T_TRUE, iterations=30).warp
    off = (found.offsets - torch.tensor(warp).double()).abs()
    assert off[:3].max() < 0.006 and off[3] < 0.02   # of a bend, two walls say little
    if any(warp):
        assert found.probability > 0.99


def test_patches_are_kept():
    packed = pack_patches(PATCHES, ORIGIN)
    found = unpack_patches(packed, ORIGIN, len(PATCHES), 1, 'there')
    assert (found.centre - PATCHES.centre).abs().max() < 1e-6
    assert (found.steps - PATCHES.steps).abs().max() < 1e-5
    assert all(torch.equal(getattr(found, name), getattr(PATCHES, name)) for name in ('luminance', 'point', 'view'))
    assert unpack_patches({}, ORIGIN, 5, 1, 'there') is None


@pytest.mark.parametrize(('name', 'change', 'word'), [
    ('patch_points', lambda t: t + 1, 'not in the map'), ('patch_points', lambda t: t.flip(0), 'not in the map'),
    ('patch_views', lambda t: t + 1, 'not in the map'), ('patch_steps', lambda t: t[:5], 'fit together'), ('patch_luminance', lambda t: t[:, 1:], 'fit together')])
def test_patches_that_do_not_fit_are_refused(name, change, word):
    packed = pack_patches(PATCHES, ORIGIN)
    with pytest.raises(AprlocError, match=f'there.*{word}'):
        unpack_patches(packed | {name: change(packed[name])}, ORIGIN, len(PATCHES), 1, 'there')
    with pytest.raises(AprlocError, match='there: not the patches'):
        unpack_patches({key: value for key, value in packed.items() if key != 'patch_steps'}, ORIGIN, len(PATCHES), 1, 'there')


@pytest.fixture(scope='module')
def capture(tmp_path_factory):
    return photographed(tmp_path_factory.mktemp('walls'), [near(20 + index, 0.35) for index in range(8)])


def photographed(directory, poses) -> tuple[MapPoints, tuple[Frame, ...]]:
    """Points of the walls whose depths are off by 2 %, and the photographs that saw them."""
    frames, rng = [], np.random.default_rng(2)
    for index, T in enumerate(poses):
        path = directory / f'{index}.png'
        assert cv2.imwrite(str(path), photograph(T))
        frames.append(Frame(path.name, path, T, CAMERA))
    xyz = PATCHES.centre * torch.from_numpy(1 + rng.normal(0, 0.02, (len(PATCHES), 1)))
    unit = torch.ones(len(xyz), 4) / 2
    views = len(frames)
    return MapPoints(xyz, unit, unit, torch.stack([frame.T_map_cam for frame in frames]),
                     len(xyz) * torch.arange(views + 1), torch.arange(len(xyz)).repeat(views)), tuple(frames)


def test_planes_are_found_from_the_views(capture):
    found = build_patches(*capture, count=200, show=False)
    assert 150 < len(found) <= 200 and (found.point.diff() > 0).all()
    centre, (right, down) = found.centre.numpy(), found.steps.numpy().transpose(1, 0, 2)
    clear = np.abs(centre[:, 0]) > 0.15     # both walls share a patch on the edge
    off = np.abs(centre[:, 2] - wall_z(centre[:, 0]))[clear]
    assert np.median(off) < 0.01    # of 4 m; 5 cm as triangulated
    normal = np.cross(right, down)
    slope = -normal[:, 0] / normal[:, 2]
    wrong = np.abs(slope - np.where(centre[:, 0] > 0, 0.5, -0.3))[clear]
    assert np.median(wrong) < 0.06


def test_a_point_that_was_seen_from_two_distances_has_a_patch_of_each(tmp_path):
    """Four views from 4 m and four from 2.5 m: the same pixels are of 1.6 times the size."""
    forward = se3_exp(torch.tensor([0, 0, 1.5, 0, 0, 0], dtype=torch.float64))
    far = [near(20 + index, 0.35) for index in range(4)]
    points, frames = photographed(tmp_path, [*far, *(T @ forward for T in far)])
    found = build_patches(points, frames, count=1000, show=False)
    numbers, counts = found.point.unique(return_counts=True)
    assert (counts <= 2).all() and (counts == 2).sum() > 100 and (found.point.diff() >= 0).all()
    both = torch.isin(found.point, numbers[counts == 2])
    size, view = (each[both].unflatten(0, (-1, 2)) for each in (found.steps[:, 1].norm(dim=1), found.view))
    assert torch.equal(view.gather(1, size.argmax(1, keepdim=True)) < 4, torch.ones(len(size), 1, dtype=torch.bool))   # far, so large
    assert (size.amax(1) / size.amin(1)).median() == pytest.approx(1.6, rel=0.1)
    assert len(unpack_patches(pack_patches(found, ORIGIN), ORIGIN, len(points), len(frames), 'there')) == len(found)


def test_what_is_cut_is_what_is_there(capture):
    found = build_patches(*capture, count=200, show=False)
    span = np.arange(SIDE) - (SIDE - 1) / 2
    steps = found.steps.double().numpy()
    at = (found.centre.numpy()[:, None, None] + span[None, None, :, None] * steps[:, None, None, 0]
          + span[None, :, None, None] * steps[:, None, None, 1])
    assert np.median(np.abs(texture(at) - found.luminance.numpy())) < 4


def test_what_is_seen_once_makes_no_patch(capture):
    points, frames = capture
    lonely = replace(points, view_offsets=torch.tensor([0, *[len(points)] * len(frames)]), view_points=torch.arange(len(points)))
    assert len(build_patches(lonely, frames, 200, show=False)) == 0


def test_a_map_keeps_its_patches(capture):
    points, _ = capture
    packed = pack_points(replace(points, patches=PATCHES))
    assert torch.equal(unpack_points(packed, 'there').patches.luminance, PATCHES.luminance)
    assert unpack_points(pack_points(points), 'there').patches is None


# The estimator with patches at its end.

PLENTY, EVERYTHING = Budget(200), NreSettings()


def located(patches, image, budget=PLENTY, settings=EVERYTHING):
    """Of points on the walls with painted descriptors, as blurred as those of images are."""
    points = replace(cloud(len(PATCHES)), xyz=PATCHES.centre, patches=patches)
    painter = Painter(points, T_TRUE, noise=0.1)
    seen = replace(query(), native=None if image is None else Luminance(image, CAMERA))
    return NreRefiner(painter, points, settings).refine(seen, NO_START, budget)


def test_patches_make_the_estimate_sharper():
    image = photograph(T_TRUE)
    without, found = located(None, image), located(PATCHES, image)
    assert found.status == without.status == 'converged' and found.signals.keys() == without.signals.keys()
    for mine, its in zip(pose_errors(found.T_map_cam, T_TRUE), pose_errors(without.T_map_cam, T_TRUE)):
        assert mine < its / 2
    torch.testing.assert_close(found.steps[-1].T_map_cam, found.T_map_cam)
    assert not torch.equal(found.hessian, without.hessian) and (torch.linalg.eigvalsh(found.hessian) > 0).all()


def test_where_patches_say_nothing_the_features_answer_stays():
    image = photograph(T_TRUE)
    expected = located(None, image)
    for found in (located(PATCHES, None), located(PATCHES, np.zeros_like(image)), located(PATCHES, image[::-1].copy()),
                  located(PATCHES, image, settings=NreSettings(patches=0))):
        assert found.status == 'converged'
        assert torch.equal(found.T_map_cam, expected.T_map_cam) and torch.equal(found.hessian, expected.hessian)


def test_patches_keep_to_the_budget():
    image = photograph(T_TRUE)
    full = located(PATCHES, image)
    short = located(PATCHES, image, Budget(full.iterations - 1))
    assert short.status == 'out of iterations' and short.iterations == full.iterations - 1


def test_another_capture_gives_a_map_no_patches(monkeypatch):
    other = SimpleNamespace(name='other', train=tuple(
        Frame(str(i), Path('none'), near(i), CAMERA, stamp_s=float(i)) for i in range(40)), test=())
    monkeypatch.setattr('aprloc_ros.training.patch_map.read_capture', lambda data: other)
    demo = ROOT / 'maps/demo'
    with pytest.raises(AprlocError, match='other poses'):
        patch_map(demo, Path('other'))
