"""A map in another frame answers as before, in that frame: closed forms on the shipped map."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from court_fixtures import held_out_drive
from repository import ROOT
from tiny_map import save_tiny_map, tiny_manifest

from aprloc_ros.catalogue import FILE_NAME
from aprloc_ros.config import to_mapping
from aprloc_ros.covariance import LOWEST_M, axis_groups
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp, so3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import Drive, Lesson, manifest_text, read_manifest
from aprloc_ros.map_bundle import POINTS_FILE, load_map
from aprloc_ros.moved_map import move_map, moved_manifest, scaled_covariance
from aprloc_ros.placement.geodesy import GeodeticOrigin
from aprloc_ros.placement.map_frame import MapFrame
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.place.capture import CAMERA

DEMO = ROOT / 'maps/demo'
TURN = so3_exp(torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64))
SHIFT = torch.tensor([120.0, -35.0, 8.0], dtype=torch.float64)
RIGID = Similarity(1.0, TURN, SHIFT, 0.0, 'by hand')
SCALED = Similarity(1.7, TURN, SHIFT, 0.003, 'by hand')


@pytest.fixture(scope='module')
def photographs():
    return held_out_drive((5, 100))[0]


@pytest.fixture(scope='module')
def original():
    return load_map(DEMO, 'cpu')


def moved_bundle(directory, *changes):
    shutil.copytree(DEMO, directory)
    for change in changes:
        move_map(directory, change)
    return load_map(directory, 'cpu')


@pytest.fixture(scope='module')
def moved(tmp_path_factory):
    root = tmp_path_factory.mktemp('moved')
    return {RIGID: moved_bundle(root / 'rigid', RIGID), SCALED: moved_bundle(root / 'scaled', SCALED)}


@pytest.mark.parametrize('change', [RIGID, SCALED], ids=['rigid', 'scaled'])
@pytest.mark.parametrize('refiner', ['none', 'nre', 'nre_quick', 'align'])
def test_the_pose_of_an_image_is_the_old_one_moved_and_so_is_its_covariance(refiner, change, original, moved, photographs):
    before, after = Localizer(original, 'cpu', refiner), Localizer(moved[change], 'cpu', refiner)
    for image in photographs:
        old, new = before.localize(image, CAMERA), after.localize(image, CAMERA)
        assert new.status == old.status != 'rejected'
        assert new.score == pytest.approx(old.score, abs=1e-6)
        assert (new.T_map_cam - change.apply(old.T_map_cam)).abs().max() < 1e-6
        by = axis_groups(change.scale, 1.0)
        expected = by[:, None] * old.covariance * by
        assert (new.covariance - expected).abs().max() < 1e-4 * expected.abs().max()


def test_there_and_back_is_where_it_was(original, tmp_path):
    back = Similarity(1 / SCALED.scale, TURN.T, -TURN.T @ SHIFT / SCALED.scale, 0.001, 'back')
    returned = moved_bundle(tmp_path / 'demo', SCALED, back)
    assert (returned.points.xyz - original.points.xyz).abs().max() < 1e-10
    assert (returned.points.view_poses - original.points.view_poses).abs().max() < 1e-10
    assert (returned.manifest.scene.T_map_scene - original.manifest.scene.T_map_scene).abs().max() < 1e-10
    assert returned.manifest.accuracy == pytest.approx(original.manifest.accuracy)
    assert returned.manifest.frame == MapFrame('metre', 0.001, 'back')


def test_no_weight_changes_and_a_rigid_move_leaves_lengths_as_they_are(moved):
    new = moved[RIGID]
    for path in DEMO.iterdir():
        same = path.read_bytes() == (new.directory / path.name).read_bytes()
        assert same == (path.name not in (FILE_NAME, POINTS_FILE)), path.name
    old = read_manifest(DEMO / FILE_NAME)
    assert (new.manifest.scene.near_m, new.manifest.accuracy) == (old.scene.near_m, old.accuracy)
    assert old.frame == MapFrame() and new.manifest.frame == MapFrame(scale_about=tuple(SHIFT.tolist()))


def test_a_map_that_was_moved_is_told_by_its_frame(moved):
    frames = {read_manifest(directory / FILE_NAME).scene.fingerprint for directory in (DEMO, *(bundle.directory for bundle in moved.values()))}
    assert len(frames) == 3 and load_map(DEMO, 'cpu').manifest.scene.fingerprint in frames


def test_lengths_of_a_manifest_change_with_its_unit():
    manifest = replace(tiny_manifest(), history={'regressor': [[10.0, 0.5, 3.0]], 'field': [[10.0, 20.0]]},
                       frame=MapFrame('arbitrary', geodetic=GeodeticOrigin(52.0, 13.0, 34.0)))
    drive = Drive('tum', 'later', 9, 1, 'cd' * 32, {'median_m': 0.2, 'median_deg': 3.0, 'frames': 1.0})
    manifest = replace(manifest, data=replace(manifest.data, drives=(drive,)))
    new = moved_manifest(manifest, SCALED)
    assert new.accuracy == pytest.approx({'median_m': 0.17, 'median_deg': 2.0})
    assert new.data.drives[0].accuracy == pytest.approx({'median_m': 0.34, 'median_deg': 3.0, 'frames': 1.0})
    assert new.history == {'regressor': [[10.0, 0.5 * 1.7, 3.0]], 'field': [[10.0, 20.0]]}
    assert new.scene.far_m == pytest.approx(1.7 * manifest.scene.far_m)
    assert new.frame == MapFrame('metre', 0.003, 'by hand')
    assert scaled_covariance(manifest.covariance, 1e-6)[0, 0] == pytest.approx(LOWEST_M ** 2)
    manifest_text(moved_manifest(manifest, replace(SCALED, scale=1e-3)))


def test_a_map_that_is_damaged_stays_as_it_is(tmp_path):
    shutil.copytree(DEMO, tmp_path / 'demo')
    (tmp_path / 'demo' / POINTS_FILE).write_bytes(b'nothing')
    with pytest.raises(AprlocError, match='damaged'):
        move_map(tmp_path / 'demo', RIGID)
    assert (tmp_path / 'demo' / FILE_NAME).read_bytes() == (DEMO / FILE_NAME).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ['demo']


def test_a_map_without_descriptors_moves_too(tmp_path):
    directory = save_tiny_map(tmp_path / 'tiny')
    T_map_scene = read_manifest(directory / FILE_NAME).scene.T_map_scene
    move_map(directory, SCALED)
    assert torch.allclose(load_map(directory, 'cpu').manifest.scene.T_map_scene, SCALED.apply(T_map_scene))


def test_an_old_manifest_counts_as_metres(tmp_path):
    directory = save_tiny_map(tmp_path / 'tiny')
    values = yaml.safe_load((directory / FILE_NAME).read_text())
    del values['frame']
    (directory / FILE_NAME).write_text(yaml.safe_dump(values))
    assert read_manifest(directory / FILE_NAME).frame == MapFrame('metre', 0.0)


def test_an_unsure_scale_is_the_spread_of_true_positions():
    """A sample of scales, against the covariance in camera axes."""
    frame = MapFrame('metre', 0.01)
    T = se3_exp(torch.tensor([3.0, -4.0, 1.0, 0.3, 0.9, -0.4], dtype=torch.float64))
    errors = 0.01 * torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    true = torch.exp(errors)[:, None] * T[:3, 3]
    xi = (true - T[:3, 3]) @ T[:3, :3]
    covariance = frame.scale_covariance(T)
    assert torch.allclose(xi.T @ xi / len(xi), covariance[:3, :3], rtol=0.02, atol=1e-5)
    assert math.sqrt(covariance.trace()) == pytest.approx(0.01 * T[:3, 3].norm().item())
    assert covariance[3:].abs().max() == 0
    assert to_mapping(frame)['geodetic'] is None


def test_the_scale_is_unsure_about_the_place_where_it_was_found_wherever_the_frame_lies():
    """Two maps of one place, one of them moved rigidly: their cameras are as unsure."""
    frame, turned = MapFrame('metre', 0.01, 'tags', scale_about=(1.0, 2.0, 0.0)), replace(SCALED, scale=1.0)
    T = se3_exp(torch.tensor([3.0, -4.0, 1.0, 0.3, 0.9, -0.4], dtype=torch.float64))
    torch.testing.assert_close(frame.moved(turned).scale_covariance(turned.apply(T)), frame.scale_covariance(T))
    assert frame.scale_covariance(T).trace().sqrt().item() == pytest.approx(0.01 * math.dist((3, -4, 1), (1, 2, 0)), abs=0.02)
    assert frame.moved(replace(SCALED, scale_about=torch.tensor([7.0, 8.0, 9.0]).double())).scale_about == (7.0, 8.0, 9.0)


def test_what_a_lesson_says_in_metres_is_moved_too():
    lesson = Lesson('pseudo', 'drive', 90, 80, 'believed answers', 16, before_m=1.0, before_deg=3.0, after_m=0.5, after_deg=2.0)
    moved, = moved_manifest(replace(tiny_manifest(), lessons=(lesson,)), SCALED).lessons
    assert moved == replace(lesson, before_m=1.7, after_m=0.85)
