"""Images without poses to a capture: against the exact poses of rendered views; nothing is left of what cannot be posed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from posing_fixtures import photograph, similarity_errors, turn, walk, write_images

from aprloc_ros import cli
from aprloc_ros.errors import AprlocError, Unwritten
from aprloc_ros.placement.map_frame import ARBITRARY, METRE
from aprloc_ros.recordings.bags import BagFrame, write_bag
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import NoPoses
from aprloc_ros.training.datasets.formats.colmap_files import read_images
from aprloc_ros.training.datasets.frame_file import read_frame
from aprloc_ros.training.datasets.parsing import natural_key
from aprloc_ros.training.foundation import find_foundation
from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.posing import pose as posing
from aprloc_ros.training.posing.lenses import doubts
from aprloc_ros.training.posing.mapping import Mapped, reach_px
from aprloc_ros.training.posing.pose import pose
from aprloc_ros.training.posing.sources.opening import is_source, open_source
from aprloc_ros.training.posing.sources.selection import Selection
from aprloc_ros.training.posing.sources.shots import Optics, Shot
from aprloc_ros.training.posing.unposed import read_or_pose
from aprloc_ros.training.structure.colmap import load_pycolmap

pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
COUNT = 12


def quiet(text: str):
    pass


@pytest.fixture(scope='module')
def views() -> list[np.ndarray]:
    return photograph(walk(COUNT))


@pytest.fixture(scope='module')
def truth() -> torch.Tensor:
    return torch.from_numpy(walk(COUNT))


@pytest.fixture(scope='module')
def posed(views, tmp_path_factory):
    """A posed folder of images, and what was said."""
    directory, said = tmp_path_factory.mktemp('posing'), []
    write_images(directory / 'my photos', views)
    return pose(directory / 'my photos', directory / 'capture', say=said.append), said


def frames_of(capture: Path) -> list:
    """In the order of the source."""
    return sorted(read_images(capture / 'sparse' / '0', 'txt'), key=lambda image: natural_key(image.name))


def test_a_folder_of_images_gets_the_poses_they_were_taken_from(posed, truth):
    frames = frames_of(posed[0])
    assert len(frames) == COUNT
    apart, turned_deg = similarity_errors(torch.stack([frame.T_map_cam for frame in frames]), truth)
    assert apart < 0.01 and turned_deg < 0.3
    assert abs(frames[0].camera.fx / CAMERA.fx - 1) < 0.03      # nobody told the lens
    assert read_capture(posed[0]).points is not None and read_frame(posed[0]).unit == ARBITRARY


def test_what_was_found_is_said_and_shown(posed):
    capture, said = posed
    text = '\n'.join(said)
    assert f'posed: {COUNT} of {COUNT} (100.0%)' in text and 'reprojection error' in text and 'unit: arbitrary' in text
    page = (capture / 'report' / 'index.html').read_text()
    assert 'The poses were good' in page and 'Nothing is missing for these images' in page
    for picture in ('top.png', 'support.png', 'tracks.png', 'worst.png'):
        assert cv2.imread(str(capture / 'report' / picture)) is not None and picture in page
    assert json.loads((capture / posing.RECORD_FILE).read_text())['left_out'] == {}
    assert not [path for path in capture.parent.iterdir() if path.name.startswith('.')]


def test_an_interrupted_run_goes_on_and_one_core_finds_the_same(posed, views, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 1)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0})
    source, out, said = write_images(tmp_path / 'my photos', views), tmp_path / 'capture', []

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(posing, 'map_images', interrupted)
        with pytest.raises(KeyboardInterrupt):
            pose(source, out, say=quiet)
    assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(posing, 'extract', interrupted)   # must not be called again
        pose(source, out, say=said.append)
    assert 'continuing the interrupted run' in said[0]
    for name in ('images.txt', 'cameras.txt', 'points3D.txt'):
        assert (out / 'sparse/0' / name).read_text() == (posed[0] / 'sparse/0' / name).read_text()


def test_what_is_there_stays_when_the_disk_is_full(views, tmp_path, monkeypatch):
    source, out = write_images(tmp_path / 'my photos', views), tmp_path / 'capture'

    def full(*arguments, **options):
        raise Unwritten('no space left on the disk')

    monkeypatch.setattr(posing, 'match', full)
    with pytest.raises(Unwritten):
        pose(source, out, say=quiet)
    assert (tmp_path / '.capture.unfinished' / 'database.db').is_file() and not out.exists()


@pytest.mark.parametrize('outcome', ['holds', 'falls apart', 'none'])
def test_where_keys_do_not_hold_together_all_images_are_mapped(outcome, monkeypatch):
    """The mapper is one of a known outcome: what it is given counts here."""
    shots, mapped = [Shot(f'{i}.png', Optics(64, 48), None) for i in range(100)], []
    chosen = Selection(tuple(range(100)), True, '', tuple(range(0, 100, 2)))

    def map_images(pycolmap, database, root, work_dir, fixed, seed, keys):
        mapped.append(len(keys))
        if outcome == 'none' and len(keys) < 100:
            raise AprlocError('no two of them match')
        count = 60 if outcome == 'falls apart' and len(keys) < 100 else 99
        return Mapped(SimpleNamespace(num_reg_images=lambda: count), {}, ())

    monkeypatch.setattr(posing, 'match_shots', lambda pycolmap, database, shots, keys, is_video, say: len(keys))
    monkeypatch.setattr(posing, 'map_images', map_images)
    place = SimpleNamespace(database=Path('db'), images=Path('images'), folder=Path('.'))
    found, alike = posing._structure(None, place, shots, chosen, set(), 0, quiet)
    assert mapped == ([50] if outcome == 'holds' else [50, 100])
    assert found.reconstruction.num_reg_images() == 99 and alike == mapped[-1]


def test_the_images_of_parts_are_named():
    names = [f'{i}.png' for i in range(20)]
    parts = [{'0.png', '1.png', '2.png', '7.png'}, {'9.png', '8.png'}, set(names[10:20:2]), set(names[11:14:2])]
    assert posing.parts_named(parts, names) == ('4 (0.png to 2.png, 7.png), 2 (8.png to 9.png), '
                                                '5 (10.png, 12.png, 14.png, 16.png, 18.png), 1 smaller ones')
    assert posing.parts_named([set(names[::2])], names) == '10 (0.png, 2.png, 4.png, 6.png, 8.png, 10.png, 4 others)'


def test_a_video_and_a_bag_give_their_images_with_stamps(views, tmp_path):
    film = cv2.VideoWriter(str(tmp_path / 'walk.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (CAMERA.width, CAMERA.height))
    for view in views:
        film.write(view[..., ::-1])
    film.release()
    poses = torch.from_numpy(walk(COUNT))
    write_bag(tmp_path / 'walk', [BagFrame((100 + i) * 10 ** 8, view, CAMERA, T) for i, (view, T) in enumerate(zip(views, poses))])
    for path, camera, start_s, worst in ((tmp_path / 'walk.avi', None, 0.0, 12.0), (tmp_path / 'walk', CAMERA, 10.0, 0.0)):
        source = open_source(path)
        assert [look.stamp_s for look in source.looks()] == pytest.approx([start_s + i / 10 for i in range(COUNT)])
        shots = list(source.take([3, 7], tmp_path / 'images'))
        assert [shot.stamp_s for shot in shots] == pytest.approx([start_s + 0.3, start_s + 0.7])
        assert {shot.optics.camera for shot in shots} == {camera}
        image = cv2.imread(str(tmp_path / 'images' / shots[1].name))[..., ::-1].astype(float)
        assert np.abs(image - views[7]).mean() <= worst and np.abs(image - views[3]).mean() > 12


def test_a_bag_keeps_its_camera_and_its_stamps_and_comes_out_in_metres(views, truth, tmp_path):
    write_bag(tmp_path / 'walk', [BagFrame((10 + i) * 10 ** 9, view, CAMERA, T) for i, (view, T) in enumerate(zip(views, truth))])
    capture = pose(tmp_path / 'walk', tmp_path / 'capture', say=quiet)
    frames = frames_of(capture)
    kept = [int(Path(frame.name).stem) for frame in frames]
    assert len(frames) > 0.9 * COUNT and frames[0].camera.fx == pytest.approx(CAMERA.fx, abs=1e-6)
    T_map_cam = torch.stack([frame.T_map_cam for frame in frames])
    apart, turned_deg = similarity_errors(T_map_cam, truth[kept])
    assert apart < 0.01 and turned_deg < 0.3
    assert read_frame(capture).unit == METRE     # the bag's topic of poses tells
    way_m, true_m = ((poses[-1, :3, 3] - poses[0, :3, 3]).norm().item() for poses in (T_map_cam, truth[kept]))
    assert way_m == pytest.approx(true_m, rel=0.015)
    stamps_s = {frame.name: frame.stamp_s for frame in (*read_capture(capture).train, *read_capture(capture).test)}
    assert stamps_s and all(stamp_s == 10 + int(Path(name).stem) for name, stamp_s in stamps_s.items())


def noise(count: int, sigma: float) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [cv2.GaussianBlur(random.integers(0, 256, (240, 320, 3), dtype=np.uint8), (0, 0), sigma) for _ in range(count)]


def bad_sources(directory: Path) -> dict[str, tuple[Path, str]]:
    """What cannot be posed -> the source, and words of the one line that says why."""
    (directory / 'empty').mkdir(parents=True)
    (directory / 'zero.mp4').write_bytes(b'')
    (directory / 'notes.txt').write_text('no images')
    rotating, here, there = photograph(turn(8)), photograph(walk(5, -4, 1.0)), photograph(walk(5, 2, 1.0, yaw=-1.8))
    blank = [np.full((240, 320, 3), 90, np.uint8)] * 8
    blurred = [cv2.GaussianBlur(view, (0, 0), 9) for view in here]
    folders = {'one': here[:1], 'blank': blank, 'blurred': blurred, 'strangers': noise(6, 2.0), 'rotating': rotating,
               'two places': here + there}
    paths = {name: write_images(directory / name, images) for name, images in folders.items()}
    return {
        'empty': (directory / 'empty', 'no image in this folder'), 'nowhere': (directory / 'nowhere', 'no such file'),
        'zero': (directory / 'zero.mp4', r'not a readable video \(0 bytes\)'), 'notes': (directory / 'notes.txt', 'videos end in'),
        'one': (paths['one'], '1 readable image;'), 'blank': (paths['blank'], 'next to nothing'),
        'blurred': (paths['blurred'], '5 of 5 images are blurred'), 'strangers': (paths['strangers'], 'match no other'),
        'rotating': (paths['rotating'], 'turned in place'), 'two places': (paths['two places'], 'parts of')}


@pytest.mark.parametrize('case', ['empty', 'nowhere', 'zero', 'notes', 'one', 'blank', 'blurred', 'strangers', 'rotating', 'two places'])
def test_what_cannot_be_posed_says_why_in_one_line_and_leaves_nothing(case, bad, tmp_path):
    source, words = bad[case]
    with pytest.raises(AprlocError, match=words) as caught:
        pose(source, tmp_path / 'capture', say=quiet)
    assert '\n' not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.fixture(scope='module')
def bad(tmp_path_factory):
    return bad_sources(tmp_path_factory.mktemp('bad'))


def test_nothing_is_overwritten_and_few_frames_are_refused(posed, tmp_path, capsys):
    source = str(posed[0] / 'images')
    assert cli.main(['pose', source, '--out', str(posed[0])]) == 1 and 'exists already' in capsys.readouterr().err
    assert cli.main(['pose', source, '--out', str(tmp_path / 'new'), '--frames', '2']) == 1
    assert '--frames 2 is too few' in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize('wish, says', [
    (('--tag-side', '-0.16'), 'the side of the tags is -0.16 m'), (('--distance', 'a', 'b', '0'), 'must be more than 0'),
    (('--distance', 'nobody', '0001', '2'), 'of the name nobody'), (('--origin', 'nobody'), 'of the name nobody')])
def test_what_cannot_be_wished_for_is_said_before_the_work(views, tmp_path, capsys, monkeypatch, wish, says):
    write_images(tmp_path / 'photos', views[:12])
    monkeypatch.setattr('aprloc_ros.training.posing.pose.extract', None)
    assert cli.main(['pose', str(tmp_path / 'photos'), '--out', str(tmp_path / 'capture'), *wish]) == 1
    assert says in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ['photos']


def test_a_capture_among_the_images_that_it_is_of_is_refused(views, tmp_path, capsys):
    source = write_images(tmp_path / 'photos' / 'front', views[:3]).parent
    assert cli.main(['pose', str(source), '--out', str(source / 'posed')]) == 1
    assert 'posed lies in' in capsys.readouterr().err and [path.name for path in source.iterdir()] == ['front']


@pytest.mark.parametrize('seed', ['-1', str(10 ** 20), 'one'])
def test_a_seed_is_a_number_that_all_understand(seed, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(['pose', str(tmp_path), '--out', str(tmp_path / 'posed'), '--seed', seed])
    assert '--seed' in capsys.readouterr().err


def test_a_build_poses_what_has_no_poses_once(posed, tmp_path, monkeypatch):
    source, kept, said = posed[0].parent / 'my photos', tmp_path / 'kept', []
    with pytest.raises(NoPoses, match='aprloc pose'):
        read_capture(source)
    monkeypatch.setattr(posing, 'pose', lambda data, out, say: Path(shutil.copytree(posed[0], out, symlinks=True)))
    captures = [read_or_pose(source, kept, tmp_path / 'cache', said.append) for _ in range(2)]
    assert torch.equal(captures[0].train[0].T_map_cam, captures[1].train[0].T_map_cam)
    assert ['finding them by structure from motion' in said[0], 'found before' in said[1]] == [True, True]
    assert read_or_pose(posed[0], tmp_path / 'not', tmp_path / 'cache', said.append).format == 'colmap'
    assert not (tmp_path / 'not').exists() and not is_source(tmp_path / 'nothing')


def test_a_build_can_stand_on_the_poses(posed, tmp_path):
    capture, said = read_capture(posed[0]), []
    foundation = find_foundation(capture, capture.train, tmp_path, 300, said.append)
    assert len(foundation.points.xyz) > 200 and not foundation.reason
    assert any('agree with them' in text for text in said)


def test_a_calibration_that_the_images_contradict_is_said(posed):
    pycolmap = load_pycolmap()
    found = pycolmap.Reconstruction(posed[0] / 'sparse' / '0')
    assert not list(doubts(pycolmap, found, {1: CAMERA}))
    wrong = replace(CAMERA, fx=1.1 * CAMERA.fx, fy=1.1 * CAMERA.fy)
    line, = doubts(pycolmap, found, {1: wrong})
    assert line.startswith('WARNING') and f'{wrong.fx:.1f}' in line and '\n' not in line


def test_limits_in_pixels_go_with_the_size_of_the_images():
    assert reach_px(480, 270) == reach_px(270, 480) == pytest.approx(1.44)
    assert reach_px(4000, 3000) == 4.0 and reach_px(160, 120) == 1.0   # COLMAP's; and no keypoint is better than a pixel


@pytest.mark.parametrize('sent, codes', [(signal.SIGINT, (130,)), pytest.param(signal.SIGTERM, (-signal.SIGTERM,), marks=pytest.mark.slow)])
def test_a_signal_ends_the_mapping_without_a_stack_trace(views, tmp_path, sent, codes):
    source = write_images(tmp_path / 'photos', views[:5])
    process = subprocess.Popen([sys.executable, '-m', 'aprloc_ros.cli', 'pose', str(source), '--out', str(tmp_path / 'capture')],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seen = ''
    while 'mapping' not in seen and process.poll() is None:
        seen += os.read(process.stderr.fileno(), 1000).decode()
    process.send_signal(sent)
    _, said = process.communicate(timeout=300)
    assert process.returncode in codes and not (tmp_path / 'capture').exists()
    assert '***' not in said and 'PC:' not in said and 'Traceback' not in said
