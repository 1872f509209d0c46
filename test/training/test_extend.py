"""A map that grows by a later drive: what is merged, what is kept, and that nothing is lost on the way."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_capture import TEST, TRAIN, wall_pose, write_wall
from tiny_map import save_tiny_map
from torch.nn import functional as F

from aprloc_ros.cli import main
from aprloc_ros.covariance import HessianCovariance
from aprloc_ros.errors import AprlocError
from aprloc_ros.estimate import ALIKE, UNSURE, WARPED, why_mostly
from aprloc_ros.gate import Gate, SignalScore
from aprloc_ros.geometry import invert, pose_errors, se3_exp
from aprloc_ros.manifest import RefinerSpec
from aprloc_ros.map_bundle import load_map, save_manifest
from aprloc_ros.moved_map import move_map
from aprloc_ros.patches import SIDE, Patches
from aprloc_ros.points import MapPoints
from aprloc_ros.scoring.evaluation import make_record
from aprloc_ros.similarity import Similarity
from aprloc_ros.training import extend_map, later_drive
from aprloc_ros.training.calibration.refiner_calibration import RefinerScores, calibrate_refiners, with_refiners
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, SparsePoints
from aprloc_ros.training.later_drive import check_belongs
from aprloc_ros.training.memory import known_drives, rendered_memory
from aprloc_ros.training.posing import by_map
from aprloc_ros.training.posing.pose import choose
from aprloc_ros.training.posing.sources.shots import Optics, Shot
from aprloc_ros.training.request import content_hash
from aprloc_ros.training.stages import rehearsal
from aprloc_ros.training.stages.growth import grown
from aprloc_ros.training.structure.colmap import load_pycolmap

pytestmark = pytest.mark.usefixtures('one_thread')


def points_at(x_m: list[float], looks: list[int], patched: list[int]) -> MapPoints:
    """Points five metres before the one view that sees them all; the looks are axes of the descriptors' space."""
    xyz = torch.tensor([[x, 0.0, 5.0] for x in x_m], dtype=torch.float64)
    coarse = F.one_hot(torch.tensor(looks), 8).float()
    patches = Patches(torch.tensor(patched), xyz[patched], torch.zeros(len(patched), 2, 3),
                      torch.tensor(patched, dtype=torch.uint8)[:, None, None].expand(-1, SIDE, SIDE),
                      torch.zeros(len(patched), dtype=torch.int64))
    return MapPoints(xyz, coarse, coarse, torch.eye(4, dtype=torch.float64)[None], torch.tensor([0, len(x_m)]),
                     torch.arange(len(x_m)), patches)


def test_one_place_that_looks_alike_is_one_point_and_one_that_does_not_has_two():
    old = points_at([0.0, 1.0, 2.0], [0, 1, 2], [0, 2])
    new = points_at([1.01, 0.0, 2.2], [1, 5, 2], [0, 1, 2])   # the same, the same place in another look, another place
    both = grown(old, new, 100)
    assert both.xyz[:, 0].tolist() == pytest.approx([0, 1, 2, 0, 2.2])
    assert both.coarse.argmax(1).tolist() == [0, 1, 2, 5, 2]
    assert [both.of_view(view).tolist() for view in (0, 1)] == [[0, 1, 2], [1, 3, 4]]
    assert both.patches.point.tolist() == [0, 2, 3, 4] and both.patches.luminance[:, 0, 0].tolist() == [0, 2, 1, 2]
    assert both.patches.view.tolist() == [0, 0, 1, 1]


def test_beyond_the_bound_the_least_seen_go():
    old = points_at([0.0, 1.0, 2.0], [0, 1, 2], [0, 1, 2])
    both = grown(old, points_at([1.0, 3.0], [1, 3], [0, 1]), 3)
    assert len(both) == 3 and both.xyz[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert both.of_view(1).tolist() == [1] and both.patches.point.tolist() == [0, 1, 2]


@pytest.fixture
def wall(tiny_wall) -> Path:
    return tiny_wall[0]


@pytest.fixture
def finished(built_wall) -> Path:
    return built_wall


@pytest.fixture(scope='module')
def later(tmp_path_factory) -> Capture:
    """A later drive that brings its points: SIFT finds nothing in images that are so small."""
    capture = read_capture(write_wall(tmp_path_factory.mktemp('captures') / 'later', late=0.4))
    random = np.random.default_rng(0)
    xyz = torch.from_numpy(np.stack([random.uniform(-1, 1, 300), random.uniform(-0.7, 0.7, 300), np.zeros(300)], 1))
    seen = []
    for index, frame in enumerate(capture.train):
        T = invert(frame.T_map_cam)
        _, inside = frame.camera.project(xyz @ T[:3, :3].T + T[:3, 3])
        seen += [(index, int(point)) for point in inside.nonzero()[:, 0]]
    return replace(capture, points=SparsePoints(xyz, torch.tensor(seen)))


@pytest.fixture
def grow(monkeypatch, finished, later, tmp_path):
    """Extend a copy of the map as often as it is called -> what was said; its networks are too poor to know any image."""
    directory = tmp_path / 'maps' / 'wall'
    shutil.copytree(finished, directory)
    monkeypatch.setattr(rehearsal, '_STEPS', 2)
    monkeypatch.setattr(extend_map, 'check_belongs', lambda bundle, drive, device: 'drive: fits')
    monkeypatch.setattr(extend_map, 'drive_accuracy', lambda records: {
        'frames': float(len(records)), 'answered': 1.0, 'right': 1.0, 'wrong': 0.0, 'median_m': 0.0, 'median_deg': 0.0})
    monkeypatch.setattr('aprloc_ros.training.memory._RENDERED', 6)
    monkeypatch.setattr(extend_map, 'with_refiners', lambda bundle, *rest: bundle)
    monkeypatch.setattr(extend_map, 'calibrate_refiners', lambda *rest: {})   # takes as long as all the rest
    monkeypatch.setattr(extend_map, 'read_drive', lambda data, *rest: later if data == 'later' else read_capture(data))

    def call(*drives) -> list[str]:
        said = []
        extend_map.extend_map(directory, drives, 'cpu', said.append)
        return said
    call.directory = directory
    return call


def content(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_a_map_grows_by_a_drive_and_says_which_taught_it(grow, later, finished, monkeypatch):
    before = load_map(finished, 'cpu')
    monkeypatch.setattr(extend_map, 'with_refiners', with_refiners)
    monkeypatch.setattr(extend_map, 'calibrate_refiners', calibrate_refiners)
    said = grow('later')
    after = load_map(grow.directory, 'cpu')
    assert [drive.name for drive in after.manifest.data.drives] == ['wall', 'later']
    assert after.manifest.data.hashes == {before.manifest.data.content_hash, content_hash(later)}
    assert len(before.points) < len(after.points) and len(after.points.view_poses) > len(before.points.view_poses)
    kept = after.points.coarse[:len(before.points)] - before.points.coarse
    assert kept.abs().max() <= 1.01 / 127   # once more in eight bits
    assert after.manifest.regressor == before.manifest.regressor and after.manifest.field == before.manifest.field
    assert after.manifest.descriptors.extractor.sha256 != before.manifest.descriptors.extractor.sha256
    assert any('renders 6 of its views' in line for line in said)
    assert not list((grow.directory.parent / '.building').iterdir())
    with pytest.raises(AprlocError, match='of those given 0 are new to it'):   # the same once more
        grow('later')


def test_a_drive_that_the_map_posed_makes_it_no_surer(grow, later, monkeypatch):
    """Its own answers say nothing of the errors that they share."""
    known = HessianCovariance(2.0, 3.0, 1.0, 0.5, 1e-3, 0.01, 50, 0, True)
    score = SignalScore((), (), (), 0.0)
    spec = RefinerSpec(Gate(score, score, 0.5, 0.5, 50, 50, True), known)
    bundle = load_map(grow.directory, 'cpu')
    save_manifest(grow.directory, replace(bundle.manifest, refiner='nre', refiners={'nre': spec}))
    surer = RefinerScores(replace(spec, covariance=replace(known, translation_scale=0.1, floor_deg=0.02)), [], 0.0, 0.0, 1.0, '')
    monkeypatch.setattr(extend_map, 'calibrate_refiners', lambda *rest: {'nre': surer})
    monkeypatch.setattr(extend_map, 'with_refiners', with_refiners)
    monkeypatch.setattr(extend_map, 'read_drive', lambda data, bundle, folder, *rest: replace(later, root=folder / 'later'))
    assert any('no less error than before' in line for line in grow('later'))
    manifest = load_map(grow.directory, 'cpu').manifest
    assert not manifest.data.drives[-1].accuracy   # nor how well it knows the drive
    after = manifest.refiners['nre'].covariance
    assert (after.translation_scale, after.rotation_scale, after.floor_deg) == (2.0, 3.0, 0.02)


@pytest.mark.parametrize('where', ['find_foundation', 'rehearse', 'with_refiners', '_scored', 'save_map'])
def test_an_interrupted_extension_leaves_the_old_map_and_goes_on(grow, monkeypatch, where):
    before, genuine = content(grow.directory), getattr(extend_map, where)

    def interrupted(*arguments, **options):
        if where == 'save_map' and arguments[0] != grow.directory:
            return genuine(*arguments, **options)
        raise KeyboardInterrupt
    monkeypatch.setattr(extend_map, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        grow('later')
    assert content(grow.directory) == before
    if where == 'save_map':
        monkeypatch.setattr(extend_map, where, genuine)
        monkeypatch.setattr(extend_map, 'find_foundation', None)   # it was found
        assert any('continuing' in line for line in grow('later'))
        assert len(load_map(grow.directory, 'cpu').manifest.data.drives) == 2


def test_a_map_that_would_forget_is_not_written(grow, monkeypatch):
    before = content(grow.directory)
    rights = iter([1.0, 0.1, 1.0, 0.98])   # of the drive now and before, of the memory before and now
    monkeypatch.setattr(extend_map, 'drive_accuracy', lambda records: {
        'frames': 100.0, 'answered': 1.0, 'right': next(rights), 'wrong': 0.0, 'median_m': 0.0, 'median_deg': 0.0})
    with pytest.raises(AprlocError, match='would forget: 98.0% instead of 100.0% of 6 old views'):
        grow('later')
    assert content(grow.directory) == before


def test_a_drive_that_taught_the_map_serves_as_its_memory(finished, wall, later):
    manifest = load_map(finished, 'cpu').manifest
    memory, new = known_drives(manifest, [read_capture(wall), later])
    assert new.root == later.root and len(memory.scored) == TEST and not memory.trained
    assert len(memory.unseen) + len(memory.shown) < TRAIN   # guards between them are in neither
    memory, new = known_drives(manifest, [later])
    assert memory is None and new is later


@pytest.mark.parametrize('names', [('wall',), ('later', 'other')])
def test_one_drive_at_a_time_is_new(finished, wall, later, names, tmp_path):
    captures = {'wall': read_capture(wall), 'later': later}
    if 'other' in names:
        captures['other'] = read_capture(write_wall(tmp_path / 'other', late=0.7))
    with pytest.raises(AprlocError, match='one drive at a time'):
        known_drives(load_map(finished, 'cpu').manifest, [captures[name] for name in names])


def test_rendered_views_are_kept_for_the_next_call(finished, tmp_path):
    bundle, said = load_map(finished, 'cpu'), []
    memory = rendered_memory(bundle, tmp_path, said.append)
    frame = memory.shown[0]
    assert frame.read_image().shape == (frame.camera.height, frame.camera.width, 3)
    assert torch.equal(frame.T_map_cam, bundle.points.view_poses[0])
    changed = {path: path.stat().st_mtime_ns for path in (tmp_path / 'rendered').iterdir()}
    rendered_memory(bundle, tmp_path, said.append)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'rendered').iterdir()} == changed


def test_a_drive_that_the_map_does_not_know_has_no_overlap(finished, later):
    with pytest.raises(AprlocError, match='no overlap was found between later and the map: it believes 0 of'):
        check_belongs(load_map(finished, 'cpu'), later, 'cpu')


def test_a_drive_whose_lens_nobody_declared_is_not_called_one_of_another_place(finished, later, monkeypatch):
    def answers(reason: str, text: str):
        return [make_record(frame.name, 0.0, frame.T_map_cam, frame.T_map_cam, 1.0, 'rejected', reason=reason, text=text) for frame in later.train]
    monkeypatch.setattr(later_drive, 'ask_some', lambda *rest: answers(WARPED, 'it is bent'))
    with pytest.raises(AprlocError, match=r'the map believes 0 of \d+ of its answers; \d+ are rejected for warped: it is bent'):
        check_belongs(load_map(finished, 'cpu'), later, 'cpu')
    monkeypatch.setattr(later_drive, 'ask_some', lambda *rest: answers(UNSURE, 'of score 0.1'))
    with pytest.raises(AprlocError, match='no overlap was found.*of another place, through a lens of another angle'):
        check_belongs(load_map(finished, 'cpu'), later, 'cpu')


def test_most_rejections_say_what_is_wrong_with_a_drive_where_it_is_not_what_it_shows():
    bent, alike, unknown = (WARPED, 'it is bent'), (ALIKE, 'move on'), (UNSURE, 'of score 0.1')
    assert why_mostly([]) == why_mostly([bent, unknown]) == ''
    assert why_mostly([alike, bent, bent, unknown]) == '2 are rejected for warped: it is bent'


def test_a_copy_of_the_drive_that_taught_the_map_is_not_new(finished, wall):
    capture = read_capture(wall)
    copy = replace(capture, name='copy', train=tuple(replace(frame, name=f'of {frame.name}') for frame in capture.train))
    with pytest.raises(AprlocError, match=r'copy has taught the map wall already.* \d+ of its 24 poses'):
        check_belongs(load_map(finished, 'cpu'), copy, 'cpu')


def test_a_copy_of_it_neither_calibrates_nor_checks(finished, wall, tmp_path, capsys):
    directory, copy = shutil.copytree(finished, tmp_path / 'maps' / 'wall'), shutil.copytree(wall, tmp_path / 'copy')
    document = json.loads((copy / 'transforms.json').read_text())
    for frame in document['frames']:   # as another program would have written it
        file = copy / frame['file_path']
        frame['file_path'] = f'{file.stem}.jpg'
        cv2.imwrite(str(copy / frame['file_path']), cv2.imread(str(file)))
    names = [frame['file_path'] for frame in document['frames']]
    (copy / 'transforms.json').write_text(json.dumps({**document, 'train_filenames': names[:TRAIN], 'test_filenames': names[TRAIN:]}))
    assert main(['calibrate', 'wall', '--data', str(copy), '--map-dir', str(directory.parent), '--device', 'cpu']) == 1
    assert 'copy has taught the map wall already' in capsys.readouterr().err


def test_drives_of_before_the_map_was_moved_remember_nothing(grow, wall, capsys):
    move_map(grow.directory, CHANGE)
    before = content(grow.directory)
    with pytest.raises(AprlocError, match='wall taught the map wall, which is in another frame since then'):
        grow('later', wall)
    assert main(['calibrate', 'wall', '--data', str(wall), '--map-dir', str(grow.directory.parent), '--device', 'cpu']) == 1
    assert 'none of its poses' in capsys.readouterr().err and content(grow.directory) == before


# Drives without poses

def part_of(pycolmap, poses: dict[str, torch.Tensor]):
    """A reconstruction of images with these poses, with a cloud of points before them."""
    part = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model='PINHOLE', width=320, height=240, params=[250.0, 250.0, 160.0, 120.0], camera_id=1)
    part.add_camera_with_trivial_rig(camera)
    xyz = np.random.default_rng(0).uniform(-1, 1, (40, 3))
    for number, (name, T) in enumerate(poses.items(), 1):
        T_cam_map = invert(T).numpy()
        seen = xyz @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]
        image = pycolmap.Image(name=name, camera_id=1, image_id=number, keypoints=250 * seen[:, :2] / seen[:, 2:] + [160, 120])
        part.add_image_with_trivial_frame(image, pycolmap.Rigid3d(T_cam_map[:3]))
    for index, point in enumerate(xyz):
        track = pycolmap.Track([pycolmap.TrackElement(number, index) for number in range(1, 1 + len(poses))])
        part.add_point3D(point, track)
    return part


def true_poses() -> dict[str, torch.Tensor]:
    return {f'{index}.png': torch.from_numpy(wall_pose(index)) for index in range(12)}


CHANGE = Similarity(2.5, se3_exp(torch.tensor([0, 0, 0, 0.4, -0.2, 1.0], dtype=torch.float64))[:3, :3],
                    torch.tensor([3.0, -1.0, 0.2], dtype=torch.float64), 0.0, '')


@pytest.fixture
def pycolmap():
    return pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')


def moved_part(pycolmap):
    part = part_of(pycolmap, true_poses())
    by_map.transform(pycolmap, part, CHANGE)
    return part


def test_a_part_comes_to_where_believed_images_say(pycolmap):
    part, truth = moved_part(pycolmap), true_poses()
    believed = {name: truth[name] for name in list(truth)[:6]}
    wrong = truth['6.png'].clone()
    wrong[:3, 3] += 5
    assert by_map._tied(pycolmap, part, by_map._Believed({**believed, '6.png': wrong}, 0.05, 0.01))
    found = by_map.camera_poses(part)
    assert all(torch.allclose(found[name], T, atol=1e-5) for name, T in truth.items())


def test_a_drive_straight_on_is_turned_by_what_its_images_see(pycolmap):
    """All its places are on a line, about which they say no turn."""
    load_pycolmap()   # it holds back what COLMAP prints
    truth, noise = {f'{index}.png': torch.eye(4, dtype=torch.float64) for index in range(12)}, torch.Generator().manual_seed(0)
    for index, T in enumerate(truth.values()):
        T[:3, 3] = torch.tensor([0.1 * index - 0.6, 0.001 * (7 * index % 5), -3.0])
    part = part_of(pycolmap, truth)
    by_map.transform(pycolmap, part, CHANGE)
    off = 0.002 * torch.randn(8, 6, generator=noise, dtype=torch.float64)
    believed = by_map._Believed({name: truth[name] @ se3_exp(xi) for name, xi in zip(truth, off)}, 0.05, 0.002)
    found = by_map._tied(pycolmap, part, believed)
    error_m, error_deg = pose_errors(*(torch.stack([poses[name] for name in truth]) for poses in (found, truth)))
    assert error_m.max() < 0.02 and error_deg.max() < 0.5


def test_ties_reach_no_farther_than_they_can_tell(pycolmap):
    """Of images that the map knows from one spot alone nothing follows for those that are far from it."""
    truth = true_poses()
    for index, T in enumerate(truth.values()):
        T[0, 3] = 0.002 * index if index < 6 else 0.3 * index
    believed = by_map._Believed({name: truth[name] for name in list(truth)[:6]}, 0.05, 0.01)
    part = part_of(pycolmap, truth)
    by_map.transform(pycolmap, part, CHANGE)
    assert list(by_map._tied(pycolmap, part, believed)) == list(truth)[:6]


def test_believed_answers_that_contradict_one_another_are_no_poses(pycolmap):
    """Half of a drive is of another place, where the map believes some answers; a small part that it knows nearly whole stays."""
    truth, elsewhere = true_poses(), {f'other {name}': T for name, T in true_poses().items()}
    answers = {name: se3_exp(torch.full((6,), 0.3 * index, dtype=torch.float64)) for index, name in enumerate(list(elsewhere)[:7])}
    small = {f'small {name}': T for name, T in list(true_poses().items())[:3]}
    believed = by_map._Believed({**{name: truth[name] for name in list(truth)[:6]}, **answers, **small, 'alone': truth['0.png']}, 0.05, 0.01)
    found = by_map._connected(pycolmap, [moved_part(pycolmap), part_of(pycolmap, elsewhere), part_of(pycolmap, small)], believed)
    assert found.keys() == {*truth, *small, 'alone'}
    few = by_map._Believed({name: answers[name] for name in list(answers)[:2]}, 0.05, 0.01)
    assert not by_map._connected(pycolmap, [part_of(pycolmap, elsewhere)], few)


@pytest.mark.parametrize('known', [3, 7])
def test_a_part_with_too_few_ties_or_contradicting_ones_is_not_connected(pycolmap, known):
    truth, random = true_poses(), torch.Generator().manual_seed(0)
    believed = {name: T.clone() for name, T in list(truth.items())[:known]}
    if known == 7:
        for T in believed.values():
            T[:3, 3] = 10 * torch.rand(3, generator=random, dtype=torch.float64)
    assert not by_map._tied(pycolmap, moved_part(pycolmap), by_map._Believed(believed, 0.05, 0.01))


def test_where_the_map_is_borne_out_its_own_word_counts():
    """Of structure from motion come the poses that the map does not know, and those it is contradicted in."""
    known = torch.eye(4, dtype=torch.float64)
    near, far = (known.clone() for _ in range(2))
    near[0, 3], far[0, 3] = 0.04, 0.2
    turned = se3_exp(torch.tensor([0, 0, 0, 0.1, 0, 0], dtype=torch.float64))
    believed = by_map._Believed({'a': known, 'b': known}, 0.1, 0.001)
    said = [believed.agrees(name, T) for name, T in (('a', near), ('b', far), ('b', turned), ('c', known))]
    assert said == [True, False, False, False]


def test_poses_that_a_map_gave_are_not_those_of_the_map_that_it_became(pycolmap, tmp_path, monkeypatch):
    directory, images, out = save_tiny_map(tmp_path / 'tiny'), tmp_path / 'images', tmp_path / 'posed'
    write_wall(tmp_path / 'wall', with_depth=False).joinpath('train').rename(images)
    answered = iter(true_poses().values())
    monkeypatch.setattr(by_map, '_believed', lambda *rest: by_map._Believed(dict(zip(('00.png', '01.png', '02.png'), answered)), 1, 1))
    bundle, asked = load_map(directory, 'cpu'), []
    monkeypatch.setattr(by_map, 'choose', lambda *rest: asked.append(1) or choose(*rest))
    request = json.dumps([by_map.fingerprint(images, None, 0), bundle.sha256])
    out.mkdir()
    (out / by_map.RECORD_FILE).write_text(json.dumps({'request': request}))
    assert by_map.pose_by_map(bundle, images, out, 'cpu', print) == out and not asked
    move_map(directory, CHANGE)
    with pytest.raises(AprlocError, match='believes 3 of'):
        by_map.pose_by_map(load_map(directory, 'cpu'), images, out, 'cpu', print)
    assert asked
    bent = by_map._Believed({}, 1, 1, rejections=((WARPED, 'it is bent'),) * 9)
    monkeypatch.setattr(by_map, '_believed', lambda *rest: bent)
    with pytest.raises(AprlocError, match='the map believes 0 of .* 9 are rejected for warped: it is bent'):
        by_map.pose_by_map(load_map(directory, 'cpu'), images, out, 'cpu', print)


def test_what_is_not_connected_is_named():
    shots = [Shot(f'{index}.png', Optics(4, 3), None) for index in range(6)]
    found = {name: torch.eye(4) for name in ('0.png', '3.png', '4.png')}
    assert by_map._connection(shots, found) == ('WARNING: 3 of 6 images have a pose in the map; not connected, and not used: '
                                                '1.png to 2.png, 5.png')
    assert by_map._connection(shots[3:4], {'3.png': torch.eye(4)}) == '1 of 1 images have a pose in the map'
