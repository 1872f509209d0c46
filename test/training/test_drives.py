"""Several drives as one capture: what is theirs stays theirs, and what is not of one place and frame is told apart."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from agreement_fixtures import COUNT
from tiny_capture import TEST, TRAIN, write_settings, write_wall

from aprloc_ros.camera import Camera
from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.map_bundle import load_map
from aprloc_ros.placement.map_frame import ARBITRARY, MapFrame
from aprloc_ros.training.checks.one_frame import check_one_frame
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, Frame, SparsePoints
from aprloc_ros.training.datasets.drives import by_drive, joined
from aprloc_ros.training.datasets.frame_file import write_frame
from aprloc_ros.training.request import content_hash
from aprloc_ros.training.structure.sightings import Sightings, across_drives
from aprloc_ros.training.structure.triangulation import pairs_across, view_pairs

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)


@pytest.fixture(scope='module')
def walls(tmp_path_factory):
    folder = tmp_path_factory.mktemp('drives')
    return [read_capture(write_wall(folder / name, late=late)) for name, late in (('monday', 0.0), ('friday', 0.4))]


def test_a_joined_capture_keeps_what_is_of_each_drive(walls):
    both = joined(walls)
    assert both.name == 'monday+friday' and len(both.train) == 2 * TRAIN and len(both.test) == 2 * TEST
    assert len({frame.name for frame in (*both.train, *both.test)}) == 2 * (TRAIN + TEST)
    assert {frame.sequence.split('/')[0] for frame in both.train} == {'monday', 'friday'}
    for (drive, frames), own in zip(by_drive(both, both.train), walls):
        assert [frame.image_path for frame in frames] == [frame.image_path for frame in own.train]
        assert content_hash(drive) == content_hash(own) != content_hash(both)


def test_a_single_drive_stays_as_it_is(walls):
    assert joined(walls[:1]) is walls[0] and by_drive(walls[0], walls[0].test) == [(walls[0], walls[0].test)]


def test_drives_of_one_name_are_numbered(walls):
    names = [drive.name for drive in joined([replace(wall, name='bag') for wall in walls]).drives]
    assert names == ['bag', 'bag-2']


def test_points_of_single_drives_are_left_out_and_said(walls):
    points = SparsePoints(torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.int64))
    both = joined([replace(walls[0], points=points), walls[1]])
    assert both.points is None and 'triangulated anew' in both.notes[-1]


def test_drives_of_several_shapes_are_said(walls, tmp_path):
    portrait = read_capture(write_wall(tmp_path / 'portrait', late=0.7, camera=Camera(36, 48, 40.0, 40.0, 17.5, 23.5), with_depth=False))
    note, = (note for note in joined([*walls, portrait]).notes if 'shape' in note)
    assert '56 of 84 images have the shape of 48x36, which the map takes; the others (28 of 36x48) count' in note
    assert not any('shape' in note for note in joined(walls).notes)


def test_a_drive_given_twice_is_a_mistake(walls):
    with pytest.raises(AprlocError, match='2 times'):
        joined([walls[0], walls[0]])


def test_a_copy_or_a_link_of_a_drive_is_that_drive(walls, tmp_path):
    (tmp_path / 'link').symlink_to(walls[0].root)
    for copy in (read_capture(tmp_path / 'link'), replace(walls[0], root=tmp_path, name='copy')):
        with pytest.raises(AprlocError, match='are one drive: 28 of their images have the same poses; each drive once'):
            joined([*walls, copy])


def test_drives_in_different_units_are_not_in_one_frame(tmp_path):
    walls = [read_capture(write_wall(tmp_path / name)) for name in ('a', 'b')]
    write_frame(tmp_path / 'b', MapFrame(ARBITRARY))
    with pytest.raises(AprlocError, match='a: metre, b: arbitrary'):
        joined(walls)


@pytest.fixture(scope='module')
def drives(walked):
    """Even and odd frames of one walk, as two drives."""
    pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    return [(Capture(name, 'transforms', walked[0].image_path.parent, own, ()), own) for name, own in
            (('first', walked[::2]), ('second', walked[1::2]))]


def second(drives, frames: tuple[Frame, ...]) -> list:
    return [drives[0], (drives[1][0], frames)]


def test_drives_of_one_place_and_frame_agree(drives):
    text, = check_one_frame(drives)
    share = int(text.removeprefix('second: ').split('%')[0])
    assert share > 85 and 'across drives' in text


def test_a_drive_in_another_frame_is_told_apart(drives):
    T = se3_exp(torch.tensor([2.0, -1.0, 0.3, 0.0, 0.0, 1.2], dtype=torch.float64))
    moved = tuple(replace(frame, T_map_cam=T @ frame.T_map_cam) for frame in drives[1][1])
    with pytest.raises(AprlocError, match='second is not in the frame of the drives before it.*aprloc pose'):
        check_one_frame(second(drives, moved))


def test_a_drive_of_another_place_has_no_overlap(drives, tmp_path):
    elsewhere, random = [], np.random.default_rng(0)
    spots = cv2.resize(random.integers(0, 256, (60, 160, 3), dtype=np.uint8), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    for i, frame in enumerate(drives[1][1]):
        path = tmp_path / frame.image_path.name
        cv2.imwrite(str(path), spots[3 * i:, 20 * i:][:frame.camera.height, :frame.camera.width])
        elsewhere.append(replace(frame, image_path=path))
    with pytest.raises(AprlocError, match='no overlap was found between second'):
        check_one_frame(second(drives, tuple(elsewhere)))


def test_pairs_across_join_different_drives_alone():
    T = torch.stack([torch.eye(4, dtype=torch.float64)] * 6)
    T[:, 0, 3] = torch.arange(6) / 10
    pairs = pairs_across(T, ['a', 'a', 'a', 'b', 'b', 'b'])
    assert {(a < 3, b >= 3) for a, b in pairs} == {(True, True)} and (2, 3) in pairs
    assert pairs_across(T, ['a'] * 6) == [] and len(view_pairs(T)) > 0


def row_of_points(count: int = 20) -> torch.Tensor:
    """[count, 3] five metres before a camera at the origin."""
    xyz = torch.zeros(count, 3, dtype=torch.float64)
    xyz[:, 0], xyz[:, 2] = torch.linspace(-1, 1, count), 5.0
    return xyz


def posed(x_m: float, yaw_rad: float = 0.0) -> torch.Tensor:
    T = se3_exp(torch.tensor([0.0, 0.0, 0.0, 0.0, yaw_rad, 0.0], dtype=torch.float64))
    T[0, 3] = x_m
    return T


@pytest.mark.parametrize(('T', 'seen'), [(posed(0.0), range(20)), (posed(0.2), range(20)), (posed(0.0, 3.1), ()),
                                         (posed(1.5), ())])
def test_a_camera_sees_what_was_seen_along_the_same_rays(T, seen):
    known = Sightings(row_of_points(), torch.eye(4, dtype=torch.float64)[None], [torch.arange(20)])
    assert known.visible(T, CAMERA).tolist() == list(seen)


def test_frames_of_one_drive_see_points_of_the_other(tmp_path):
    frames = tuple(Frame(name, tmp_path, posed(x_m), CAMERA, drive=drive)
                   for name, x_m, drive in (('0', 0.0, 'a'), ('1', 0.1, 'a'), ('2', 0.05, 'b'), ('3', 9.0, 'b')))
    own = torch.cat([row_of_points(), torch.tensor([[0.0, 0.9, 5.0]], dtype=torch.float64)])   # the last one of b's own
    points = SparsePoints(own, torch.tensor([(frame, point) for frame in (0, 1) for point in range(20)] + [(2, 20), (3, 20)]))
    more = across_drives(frames, points)
    added = more.observations[len(points.observations):]
    assert sorted(map(tuple, added.tolist())) == [(0, 20), (1, 20), *((2, point) for point in range(20))]
    assert torch.equal(across_drives(frames, SparsePoints(own, points.observations[:40])).observations, points.observations[:40])


def test_two_drives_build_one_map(walls, tmp_path, capsys):
    settings = write_settings(tmp_path / 'tiny.yaml')
    data = [word for wall in walls for word in ('--data', str(wall.root))]
    assert main(['build', 'wall', *data, '--config', str(settings), '--map-dir', str(tmp_path), '--device', 'cpu']) == 0
    said = capsys.readouterr().out
    m = load_map(tmp_path / 'wall', 'cpu').manifest
    assert [(drive.name, drive.train_frames, drive.test_frames) for drive in m.data.drives] == \
        [('monday', TRAIN, TEST), ('friday', TRAIN, TEST)]
    assert [drive.content_hash for drive in m.data.drives] == [content_hash(wall) for wall in walls]
    assert all(drive.accuracy['frames'] == TEST for drive in m.data.drives) and m.accuracy['frames'] == 2 * TEST
    assert 'monday: poses:' in said and f'friday: {TEST} held-out frames' in said
    assert main(['calibrate', 'wall', '--data', str(walls[1].root), '--map-dir', str(tmp_path), '--device', 'cpu']) == 0
    assert 'that trained the map' in capsys.readouterr().out


def test_a_drive_without_poses_cannot_be_joined(walls, tmp_path, capsys):
    (tmp_path / 'photos').mkdir()
    cv2.imwrite(str(tmp_path / 'photos/0.png'), walls[0].train[0].read_image())
    assert main(['build', 'wall', '--data', str(walls[0].root), '--data', str(tmp_path / 'photos'), '--map-dir', str(tmp_path)]) == 1
    assert 'aprloc extend' in capsys.readouterr().err


def test_the_walk_has_frames_for_both(drives):
    assert len(drives[0][1]) + len(drives[1][1]) == COUNT
