"""Pairs matched by several processes: the same as by one, taken up where they were, and none outlives who asked."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aprloc_ros.errors import AprlocError, Unwritten
from aprloc_ros.training.posing import torn
from aprloc_ros.training.structure import matching
from aprloc_ros.training.structure.space import room_for

pycolmap = pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
VIEWS, POINTS = 6, 200
NAMES = [f'{i}.png' for i in range(VIEWS)]
PAIRS = [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1:]]


@pytest.fixture
def database(tmp_path) -> Path:
    """Views of the same points, each with a descriptor that is nearly the same everywhere."""
    random = np.random.default_rng(0)
    xyz, descriptors = random.uniform((-2, -2, 4), (2, 2, 8), (POINTS, 3)), random.integers(0, 128, (POINTS, 128))
    with pycolmap.Database.open(tmp_path / 'database.db') as target:
        camera = target.write_camera(pycolmap.Camera(model='SIMPLE_PINHOLE', width=640, height=480, params=[500, 320, 240]))
        sensor, rig = pycolmap.sensor_t(type=pycolmap.SensorType.CAMERA, id=camera), pycolmap.Rig()
        rig.add_ref_sensor(sensor)
        rig_number = target.write_rig(rig)
        for i, name in enumerate(NAMES):
            number = target.write_image(pycolmap.Image(name=name, camera_id=camera))
            frame = pycolmap.Frame(rig_id=rig_number)
            frame.add_data_id(pycolmap.data_t(sensor_id=sensor, id=number))
            target.write_frame(frame)
            seen = xyz - (0.3 * i, 0.1 * i ** 2, 0)
            noisy = np.clip(descriptors + random.integers(-3, 4, descriptors.shape), 0, 255).astype(np.uint8)
            target.write_keypoints(number, (500 * seen[:, :2] / seen[:, 2:] + (320, 240)).astype(np.float32))
            target.write_descriptors(number, pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, noisy))
    return tmp_path / 'database.db'


def found(database: Path) -> dict[int, tuple]:
    """Pair -> matches, those that are confirmed, their fundamental matrix."""
    with pycolmap.Database.open(database) as stored:
        matches = dict(zip(*stored.read_all_matches()))
        return {pair: (matches[pair].tolist(), geometry.inlier_matches.tolist(), geometry.F.tolist())
                for pair, geometry in zip(*stored.read_two_view_geometries())}


def on_cores(monkeypatch, count: int, pairs_at_once: int):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(count)))
    monkeypatch.setattr(matching, '_PAIRS_AT_ONCE', pairs_at_once)


def test_a_pair_that_was_cut_off_before_its_geometry_is_matched_again(database, tmp_path, monkeypatch):
    on_cores(monkeypatch, 1, 64)
    whole = tmp_path / 'whole.db'
    whole.write_bytes(database.read_bytes())
    matching.match(pycolmap, whole, PAIRS[:2])
    with pycolmap.Database.open(database) as stored:
        stored.write_matches(1, 2, np.zeros((1, 2), np.uint32))
    matching.match(pycolmap, database, PAIRS[:2])
    assert found(database) == found(whole)


def test_several_processes_find_what_one_finds_and_pairs_done_are_left_alone(database, tmp_path, monkeypatch):
    """In a folder whose name is no line of text, too."""
    one = tmp_path / 'one.db'
    (tmp_path / 'ä\n b').mkdir()
    database = database.rename(tmp_path / 'ä\n b' / database.name)
    one.write_bytes(database.read_bytes())
    on_cores(monkeypatch, 1, 64)
    matching.match(pycolmap, one, PAIRS)
    true = [[i, i] for i in range(POINTS)]
    assert len(found(one)) == len(PAIRS) and all(matches == true for matches, *_ in found(one).values())
    on_cores(monkeypatch, 3, 4)
    matching.match(pycolmap, database, PAIRS[:5])
    matching.match(pycolmap, database, PAIRS)
    assert found(database) == found(one)
    assert [path.name for path in database.parent.iterdir()] == ['database.db']
    monkeypatch.setattr(matching, 'crew', None)      # nothing is left to do
    matching.match(pycolmap, database, PAIRS)


def test_a_pair_that_shares_nothing_is_done_too(database, monkeypatch):
    on_cores(monkeypatch, 1, 64)
    with pycolmap.Database.open(database) as stored:
        stored.clear_descriptors()
        for image in stored.read_all_images():
            none = pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, np.zeros((0, 128), np.uint8))
            stored.write_descriptors(image.image_id, none)
    matching.match(pycolmap, database, PAIRS[:2])
    with pycolmap.Database.open(database) as stored:
        assert stored.exists_two_view_geometry(1, 2) and stored.num_inlier_matches() == 0


CREW = '''
import sys, time
from pathlib import Path
from aprloc_ros.training.structure import crew
start, processes = crew._start, []
crew._start = lambda: processes.append(start()) or processes[-1]
with crew.crew(2) as matched:
    print(*(process.pid for process in processes), flush=True)
    {}
'''


def children_of(code: str) -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen([sys.executable, '-c', CREW.format(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, [int(word) for word in process.stdout.readline().split()]


def wait_until_gone(numbers: list[int]):
    """Returns when none of these processes runs; the test's time limit ends it otherwise."""
    while any(Path(f'/proc/{number}/stat').exists() and Path(f'/proc/{number}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
              for number in numbers):
        pass


@pytest.mark.parametrize('sent', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_who_asked(sent):
    process, numbers = children_of('time.sleep(600)')
    assert len(numbers) == 2
    process.send_signal(sent)
    process.communicate()
    wait_until_gone(numbers)


def test_a_process_that_dies_is_an_error_in_one_line():
    process, numbers = children_of("list(matched([Path('/nowhere')]))")
    _, said = process.communicate()
    assert 'AprlocError' in said and 'ended by itself' in said
    wait_until_gone(numbers)


def test_a_full_disk_is_said_before_and_while_colmap_writes(tmp_path, monkeypatch):
    class Full:
        total, used, free = 1 << 30, 1 << 30, 5 << 20
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Full)
    with pytest.raises(Unwritten, match='5 MB are free on this disk, and up to 7 MB are needed'), room_for(7 << 20, tmp_path):
        raise AssertionError('begun all the same')
    with pytest.raises(Unwritten, match='no space left'), room_for(0, tmp_path):
        raise RuntimeError('[database_sqlite.cc:1362] SQLite error: database or disk is full')
    with pytest.raises(RuntimeError, match='else'), room_for(0, tmp_path):
        raise RuntimeError('something else')
    Full.free = 100
    with pytest.raises(Unwritten, match='no space left'), room_for(0, tmp_path):
        raise RuntimeError('No registered database factory succeeded.')


@pytest.fixture
def taken(database) -> Callable[[float], object]:
    """A reconstruction from the true poses, but with the last two images so far aside; their features are matched."""
    matching.match(pycolmap, database, PAIRS)

    def reconstruct(aside: float):
        model = pycolmap.Reconstruction()
        with pycolmap.Database.open(database) as stored:
            for camera in stored.read_all_cameras():
                model.add_camera_with_trivial_rig(camera)
            for i, image in enumerate(sorted(stored.read_all_images(), key=lambda image: NAMES.index(image.name))):
                place = np.array([0.3 * i, 0.1 * i ** 2 + aside * (i >= len(NAMES) - 2), 0.0])
                bare = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
                model.add_image_with_trivial_frame(bare, pycolmap.Rigid3d(pycolmap.Rotation3d(), -place))
        return model
    return reconstruct


def test_images_that_match_but_were_put_apart_are_told(database, taken):
    def shots(names, sequence=lambda name: ''):
        return {name: SimpleNamespace(sequence=sequence(name)) for name in names}
    assert torn.torn_pairs(pycolmap, taken(0.0), database) == ([], len(PAIRS))
    assert torn.check_torn(pycolmap, taken(0.0), database, shots(NAMES), True) == ''
    apart, count = torn.torn_pairs(pycolmap, taken(5.0), database)
    across = list(itertools.product(NAMES[:-2], NAMES[-2:]))
    assert sorted(map(sorted, apart)) == sorted(map(sorted, across)) and count == len(PAIRS)
    assert re.match(r'WARNING: \d pairs of images that follow .* 0.png and 4.png say', torn.check_torn(pycolmap, taken(5.0), database, shots(NAMES), False))
    with pytest.raises(AprlocError, match='follow one another match, .* places that look alike were taken for one; pose each'):
        torn.check_torn(pycolmap, taken(5.0), database, shots(NAMES), True)
    far = [*NAMES[:4], *map(str, range(9)), *NAMES[4:]]   # of another time: they look alike, and lie apart as they should
    assert torn.check_torn(pycolmap, taken(5.0), database, shots(far), True) == ''
    assert torn.check_torn(pycolmap, taken(5.0), database, shots(NAMES, lambda name: name), True) == ''
