"""Long work: it goes on as long as the same is asked for, one process at a time does it, and what is unfinished hides a map never."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from tiny_capture import write_wall
from tiny_map import save_tiny_map

from aprloc_ros import whole_files
from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError, Unwritten
from aprloc_ros.map_bundle import load_map, save_map
from aprloc_ros.training import resumption
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.request import taken_as
from aprloc_ros.training.resumption import gone_at_the_end, resume


@pytest.fixture
def directory(tmp_path):
    return save_tiny_map(tmp_path / 'maps' / 'tiny')


@pytest.fixture
def elsewhere():
    """Keeps a folder in another process, until the test ends."""
    processes = []

    def keep(folder):
        code = ('import pathlib, sys; from aprloc_ros.training.resumption import claim; '
                f'claim(pathlib.Path({str(folder)!r})); print(1, flush=True); sys.stdin.read()')
        processes.append(subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert processes[-1].stdout.readline() == b'1\n'
        return processes[-1]
    yield keep
    for process in processes:
        process.communicate()


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_same_request_goes_on_and_another_begins_anew(tmp_path):
    said, folder = [], tmp_path / 'a' / 'work'
    resume(folder, 'one', said.append)
    (folder / 'kept').mkdir()
    resume(folder, 'one', said.append)
    assert (folder / 'kept').is_dir() and said == [f'continuing the interrupted run in {folder}']
    resume(folder, 'two', said.append)
    assert not (folder / 'kept').exists() and len(said) == 1


def test_a_second_process_is_refused_and_leaves_all_as_it_is(tmp_path, elsewhere):
    resume(tmp_path, 'one', print)
    (tmp_path / 'kept').touch()
    resume(tmp_path, 'one', print)   # the same process has it already
    os.close(resumption._CLAIMED.pop(tmp_path.resolve()))
    other = elsewhere(tmp_path)
    with pytest.raises(AprlocError, match='another aprloc is at work there; wait'):
        resume(tmp_path, 'two', print)
    assert (tmp_path / 'kept').exists()
    other.send_signal(signal.SIGKILL)   # however it ends, the folder is free
    other.wait()
    resume(tmp_path, 'one', print)


def test_a_map_that_may_not_be_written_to_is_refused_before_any_work(directory, tmp_path, monkeypatch, capsys):
    """On a disk that is mounted to be read, say."""
    monkeypatch.setattr(resumption.os, 'access', lambda path, mode: path != directory.resolve())
    assert main(['calibrate', directory.name, '--map-dir', str(directory.parent), '--data', str(tmp_path / 'nowhere')]) == 1
    assert 'may not be written to, so nothing there can be changed' in capsys.readouterr().err


@pytest.mark.parametrize('words', [['calibrate', '--data'], ['extend', '--data'], ['adapt', '--data'], ['align', '--to', 'poses.txt', '--data']])
def test_two_commands_that_change_one_map_do_not_meet(directory, elsewhere, tmp_path, capsys, words):
    before, wall = contents(directory), write_wall(tmp_path / 'wall')
    elsewhere(directory)
    assert main([words[0], 'tiny', *words[1:], str(wall), '--map-dir', str(directory.parent), '--device', 'cpu']) == 1
    assert capsys.readouterr().err == f'aprloc: error: {directory}: another aprloc is at work there; wait until it has ended, or end it\n'
    assert contents(directory) == before and os.listdir(directory.parent) == ['tiny']


@pytest.mark.parametrize('error, stays', [(AprlocError('no'), False), (Unwritten('full'), True), (KeyboardInterrupt(), True)])
def test_what_would_end_the_same_way_again_leaves_nothing(tmp_path, error, stays):
    folder = tmp_path / 'work'
    folder.mkdir()
    with pytest.raises(type(error)), gone_at_the_end(folder):
        raise error
    assert folder.exists() is stays


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_a_map_that_cannot_be_replaced_is_there_again(directory, monkeypatch, error):
    bundle, before, rename = load_map(directory, 'cpu'), contents(directory), os.rename

    def failing(source, target):
        if source.name == '.tiny.partial':
            raise error
        rename(source, target)
    monkeypatch.setattr(whole_files.os, 'rename', failing)
    with pytest.raises((Unwritten, KeyboardInterrupt)):
        save_map(directory, bundle.manifest, bundle.regressor, bundle.field)
    assert contents(directory) == before


def test_a_full_disk_is_one_line_and_leaves_no_part(tmp_path):
    """Both libraries hide it: one in an error of its own, the other in a number that it returns."""
    code = '''
import resource, sys
from pathlib import Path
import numpy as np, torch
from aprloc_ros.errors import Unwritten
from aprloc_ros.training.datasets.files import save_image
from aprloc_ros.training.stages.loop import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))   # a file system that takes no more
noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
for write, content in ((write_atomically, torch.zeros(10000)), (save_image, noise)):
    try:
        write(Path(sys.argv[1]) / 'file.png', content)
    except Unwritten as error:
        print(error)
'''
    ran = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.count('file.png: cannot be written') == 2 and not list(tmp_path.iterdir())


def test_what_a_capture_says_besides_its_images_counts(tmp_path):
    """A calibration or a depth unit that is corrected is another request."""
    capture = read_capture(write_wall(tmp_path / 'wall'))
    frame = capture.train[0]
    changed = [replace(frame, camera=replace(frame.camera, fx=41.0)), replace(frame, depth_unit_m=1e-3), replace(frame, sample_bits=12)]
    known = {taken_as(capture), *(taken_as(replace(capture, train=(each, *capture.train[1:]))) for each in changed)}
    assert len(known) == 4
