"""`aprloc build` of a tiny capture: what is in the map, what never enters training, and kills at any moment."""

import hashlib
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from nursery import Forked
from safetensors.torch import load_file
from tiny_capture import TEST, TRAIN, write_settings, write_wall

from aprloc_ros.catalogue import list_maps
from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import EXTRACTOR_FILE, FIELD_FILE, POINTS_FILE, REGRESSOR_FILE, load_map
from aprloc_ros.networks import build_regressor
from aprloc_ros.training import build_map, foundation
from aprloc_ros.training.build_map import build
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, Frame, SparsePoints

STARTED_S = time.monotonic()
pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def wall(tiny_wall) -> Path:
    return tiny_wall[0]


@pytest.fixture
def settings(tiny_wall) -> Path:
    return tiny_wall[1]


@pytest.fixture
def finished(built_wall) -> Path:
    """The map of a build that nobody interrupted."""
    return built_wall


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """Of all stages, those first that others learn from: what differs first is where to look."""
    return {f'{name}: {key}': value for name in (POINTS_FILE, FIELD_FILE, REGRESSOR_FILE, EXTRACTOR_FILE)
            for key, value in load_file(directory / name).items()}


def assert_same_weights(first: Path, second: Path):
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def test_the_manifest_tells_what_was_built_from_what(wall, finished):
    bundle = load_map(finished, 'cpu')
    m = bundle.manifest
    assert (m.name, m.data.format, m.data.name, m.data.seed) == ('wall', 'transforms', 'wall', 0)
    assert (m.data.train_frames, m.data.test_frames, m.accuracy['frames']) == (TRAIN, TEST, TEST)
    assert (m.regressor.kind, m.field.kind, m.build.preset) == ('dfnet', 'planes', 'small')
    assert (m.camera.width, m.camera.height) == (43, 32) and m.taken_by == read_capture(wall).train[0].camera
    # The wall is 1.9 to 2.1 m away, seen at up to 0.1 rad.
    assert 1.0 < m.scene.near_m < 1.5 and 2.3 < m.scene.far_m < 3.2
    assert 0.1 < m.build.seconds < time.monotonic() - STARTED_S and 100 < m.build.peak_memory_mb < 5000 and m.build.torch_version
    assert [len(row) for row in m.history['field']] == [2] * 10
    assert [len(row) for row in m.history['regressor']] == [3] * 3      # steps 3, 6 and the last
    digest = hashlib.sha256()
    capture = read_capture(wall)
    for frame in capture.train + capture.test:
        digest.update(frame.name.encode() + frame.T_map_cam.numpy().tobytes())
        digest.update(hashlib.sha256(frame.image_path.read_bytes()).digest())
    assert m.data.content_hash == digest.hexdigest()
    assert not (finished.parent / '.building' / 'wall').exists()
    for stage in ('field', 'regressor'):
        assert (finished / f'{stage}.csv').read_text().startswith('step,seconds,')


def test_the_accuracy_is_what_the_localizer_reaches(wall, finished):
    bundle = load_map(finished, 'cpu')
    localizer = Localizer(bundle, 'cpu')
    test = read_capture(wall).test
    estimates = torch.stack([localizer.localize(frame.read_image(), frame.camera).T_map_cam for frame in test])
    error_m, error_deg = pose_errors(estimates, torch.stack([frame.T_map_cam for frame in test]))
    assert np.median(error_m) == pytest.approx(bundle.manifest.accuracy['median_m'], abs=0.01)
    assert np.median(error_deg) == pytest.approx(bundle.manifest.accuracy['median_deg'], abs=0.2)


def test_a_field_learns_the_wall(wall, tmp_path):
    """A field with room for the texture shows the held-out frames far better than their mean colour does."""
    larger = {'plane_sizes': [64], 'grid_size': 8, 'proposal_size': 8, 'features': 4, 'hidden': 16,
              'coarse_samples': 16, 'fine_samples': 8}
    config = write_settings(tmp_path / 'more.yaml', field={
        'arguments': larger, 'steps': 250, 'rays': 512, 'learning_rate': 0.01, 'final_learning_rate': 0.003})
    more = build('more', wall, map_dir=tmp_path, config=config, device='cpu', until='field')
    rows = torch.load(more / 'field.ckpt', weights_only=True)['rows']
    psnr = [row['validation_psnr_db'] for row in rows if 'validation_psnr_db' in row]
    image = read_capture(wall).test[0].read_image() / 255
    assert psnr[-1] > -10 * np.log10(((image - image.mean((0, 1))) ** 2).mean()) + 3


def test_test_frames_are_read_for_the_score_alone(wall, settings, tmp_path, monkeypatch):
    read, read_image = [], Frame.read_image
    monkeypatch.setattr(Frame, 'read_image', lambda frame: read.append(frame.image_path) or read_image(frame))
    build('wall', wall, map_dir=tmp_path, config=settings, device='cpu', until='regressor')
    assert {path.parent.name for path in read} == {'train'}
    assert 20 <= len(set(read)) < TRAIN     # the guard frames between fit and calibration are never read
    read.clear()
    build('wall', wall, map_dir=tmp_path, config=settings, device='cpu')
    assert {path.name for path in read if path.parent.name == 'test'} == {f'{TRAIN + i}.png' for i in range(TEST)}


def test_what_is_not_as_written_is_said_and_masks_begin_a_build_anew(wall, settings, tmp_path, capsys):
    place = shutil.copytree(wall, tmp_path / 'wall')
    for path in (place / 'train').glob('??.png'):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (24, 18), interpolation=cv2.INTER_AREA))

    def said() -> str:
        build('wall', place, map_dir=tmp_path / 'maps', config=settings, device='cpu', until='field')
        return capsys.readouterr().out
    first = said()
    assert first.count(f'{TRAIN} of {TRAIN + TEST} images are 24x18: their intrinsics of 48x36 are scaled') == 1
    assert 'continuing' in said()
    (place / 'train' / 'masks').mkdir()
    cv2.imwrite(str(place / 'train' / 'masks' / '03.png'), np.eye(18, 24, dtype=np.uint8))
    masked = said()
    assert f'masks: 1 of {TRAIN + TEST} images have one' in masked and 'continuing' not in masked


def test_other_test_images_make_the_same_networks(wall, settings, finished, tmp_path):
    other = shutil.copytree(wall, tmp_path / 'wall')
    for path in (other / 'test').glob('??.png'):
        cv2.imwrite(str(path), np.zeros((36, 48, 3), np.uint8))
    target = build('wall', other, map_dir=tmp_path / 'maps', config=settings, device='cpu')
    assert_same_weights(target, finished)
    ours, theirs = load_map(target, 'cpu').manifest, load_map(finished, 'cpu').manifest
    assert ours.accuracy != theirs.accuracy and ours.data.content_hash != theirs.data.content_hash
    assert torch.equal(ours.covariance, theirs.covariance)


def test_a_build_stopped_after_a_stage_goes_on(wall, settings, finished, tmp_path, capsys):
    command = ['build', 'wall', '--data', str(wall), '--config', str(settings), '--map-dir', str(tmp_path),
               '--device', 'cpu']
    for stage in ('field', 'regressor'):
        assert main([*command, '--until', stage]) == 0
        assert (tmp_path / '.building/wall' / f'{stage}.ckpt').is_file()
        assert not (tmp_path / 'wall').exists()
    before = torch.load(tmp_path / '.building/wall/field.ckpt', weights_only=True)['spent_s']
    assert main(command) == 0
    assert 'continuing the interrupted run' in capsys.readouterr().out
    assert_same_weights(tmp_path / 'wall', finished)
    assert load_map(tmp_path / 'wall', 'cpu').manifest.build.seconds > before


KILLED = '''
import os, signal, sys, torch
from aprloc_ros import whole_files
from aprloc_ros.cli import main
from aprloc_ros.training.stages.loop import Loop
torch.set_num_threads(1)
moment, command = sys.argv[1], sys.argv[2:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
original = Loop.__iter__
def steps(self):
    self.checkpoint_every_s = -1
    for step in original(self):
        if (self.name, step) == (moment, 5):
            die()
        yield step
Loop.__iter__ = steps
if moment == 'save':
    whole_files.swap_in = die
main(command)
'''


def test_a_build_that_is_killed_three_times(wall, settings, finished, tmp_path):
    """In the field, in the regressor and while the map is saved: no map is left, and the last run's is the same."""
    maps = tmp_path / 'maps'
    command = ['build', 'wall', '--data', str(wall), '--config', str(settings), '--map-dir', str(maps), '--device', 'cpu']
    for moment in ('field', 'regressor', 'save'):
        killed = Forked(KILLED, [moment, *command], tmp_path / 'log')
        assert killed.wait() == -signal.SIGKILL, (tmp_path / 'log').read_text()
        assert 'wall' not in {path.name for path in list_maps(maps).values() if maps in path.parents}
        with pytest.raises(AprlocError):
            load_map(maps / 'wall', 'cpu')
        if moment != 'save':
            assert torch.load(maps / f'.building/wall/{moment}.ckpt', weights_only=True)['step'] == 5
    assert main(command) == 0
    assert_same_weights(maps / 'wall', finished)
    assert sorted(os.listdir(maps)) == ['.building', 'wall']
    assert load_map(maps / 'wall', 'cpu').manifest.history['regressor'][-1][1:] == \
        load_map(finished, 'cpu').manifest.history['regressor'][-1][1:]


def test_an_interrupt_leaves_no_map_and_a_build_that_goes_on(wall, settings, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt
    command = ['build', 'wall', '--data', str(wall), '--config', str(settings), '--map-dir', str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(build_map, 'train_regressor', interrupted)
        assert main(command) == 130
    assert not (tmp_path / 'wall').exists()
    assert main(command) == 0
    assert 'continuing the interrupted run' in capsys.readouterr().out
    load_map(tmp_path / 'wall', 'cpu')


@pytest.mark.parametrize('regressor', ['dfnet', 'posenet'])
def test_the_papers_models_and_schedule_in_small(wall, tmp_path, regressor):
    """A histogram NeRF without depth supervision; epochs, a validation in each, the plateau schedule."""
    nerf = {'bands': 2, 'direction_bands': 1, 'depth': 2, 'width': 16, 'coarse_samples': 8, 'fine_samples': 8}
    features = {'feature_hidden': 4, 'feature_channels': 4} if regressor == 'dfnet' else {}
    config = write_settings(
        tmp_path / 'paper.yaml', field={'kind': 'nerf_hist', 'arguments': nerf, 'steps': 0, 'epochs': 1,
                                        'spatial_factor': 1.0, 'depth_weight': 0.0, 'coarse_to_fine': 0.5},
        regressor={'kind': regressor, 'arguments': {'backbone': 'mobilenet_v2', 'width': 0.25, **features}, 'steps': 0,
                   'epochs': 2, 'schedule': 'plateau', 'validate_every': 0, 'patience': 200})
    target = build('wall', wall, 'paper', map_dir=tmp_path / 'maps', config=config, device='cpu')
    manifest = load_map(target, 'cpu').manifest
    assert (manifest.build.preset, manifest.field.kind, manifest.regressor.kind) == ('paper', 'nerf_hist', regressor)
    assert len(manifest.history['regressor']) == 2 and len(manifest.history['field']) == 10


def test_a_pretrained_posenet_keeps_its_batch_statistics(wall, tmp_path):
    """Direct-PoseNet section 4.1, from a checkpoint file; statistics start at 0 and 1, so others tell it was read."""
    arguments = {'backbone': 'mobilenet_v2', 'width': 0.25}
    statistics = {key: value + 0.25 if 'running' in key else value
                  for key, value in build_regressor('posenet', arguments).backbone.state_dict().items()}
    torch.save(statistics, tmp_path / 'backbone.pth')
    config = write_settings(tmp_path / 'posenet.yaml', regressor={'kind': 'posenet', 'arguments': arguments})
    target = build('wall', wall, map_dir=tmp_path / 'maps', config=config, imagenet=str(tmp_path / 'backbone.pth'))
    trained = load_map(target, 'cpu').regressor.backbone.state_dict()
    assert all(torch.equal(trained[key], value) for key, value in statistics.items() if 'running' in key)
    assert not all(torch.equal(trained[key], value.half().float()) for key, value in statistics.items())


def test_another_request_starts_afresh(wall, settings, finished, tmp_path, capsys):
    build('wall', wall, map_dir=tmp_path, config=settings, device='cpu', until='field')
    target = build('wall', wall, map_dir=tmp_path, config=settings, device='cpu', seed=1)
    assert 'continuing' not in capsys.readouterr().out
    assert not torch.equal(*(weights(each)[f'{FIELD_FILE}: grid'] for each in (target, finished)))


def test_points_of_the_capture_are_renumbered_to_the_fit_frames(tmp_path):
    train = tuple(Frame(name, tmp_path, torch.eye(4), None) for name in 'abcd')
    points = SparsePoints(torch.rand(3, 3), torch.tensor([[0, 2], [1, 0], [3, 1], [3, 2]]))
    capture = Capture('place', 'colmap', tmp_path, train, (), points)
    found = foundation._points_of((train[3], train[0]), capture)
    assert found.observations.tolist() == [[1, 2], [0, 1], [0, 2]]
    assert torch.equal(found.xyz, points.xyz)


@pytest.mark.parametrize('arguments, parts', [
    (['wall', '--data', '/no/such/capture'], ['/no/such/capture', 'no such file']),
    (['../wall', '--data', '.'], ["'../wall'", 'not allowed']),
    (['wall', '--data', 'CAPTURE', '--config', '/no/such.yaml'], ['/no/such.yaml']),
    (['wall', '--data', 'CAPTURE', '--config', 'BAD'], ['bad.yaml', 'field.speed']),
    (['wall', '--data', 'CAPTURE', '--config', 'TINY', '--imagenet', '/no/w.pth'], ['/no/w.pth', 'no such file']),
    (['wall', '--data', 'CAPTURE', '--device', 'tpu', '--config', 'TINY'], ['tpu'])])
def test_mistakes_get_one_line_and_status_one(wall, settings, tmp_path, capfd, arguments, parts):
    (tmp_path / 'bad.yaml').write_text('field: {speed: 3}\n')
    names = {'CAPTURE': str(wall), 'BAD': str(tmp_path / 'bad.yaml'), 'TINY': str(settings)}
    assert main(['build', *(names.get(a, a) for a in arguments), '--map-dir', str(tmp_path)]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if 'error' in line or 'Traceback' in line]
    assert len(lines) == 1 and lines[0].startswith('aprloc: error: ')
    for part in parts:
        assert part in lines[0], lines
    assert not (tmp_path / 'wall').exists()


def test_what_is_no_map_is_not_replaced_and_refused_before_the_work(wall, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(build_map, 'train_field', None)
    (tmp_path / 'wall').mkdir()
    (tmp_path / 'wall/thesis.tex').write_text('all of it')
    with pytest.raises(AprlocError, match='exists and is not a map'):
        build('wall', wall, map_dir=tmp_path, config=settings)
    assert (tmp_path / 'wall/thesis.tex').read_text() == 'all of it'


def test_an_unknown_preset_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        main(['build', 'wall', '--data', '.', '--preset', 'huge'])
    assert caught.value.code == 2 and 'huge' in capsys.readouterr().err


@pytest.mark.filterwarnings('ignore:.*found in sys.modules:RuntimeWarning')
@pytest.mark.parametrize('stage', ['field', 'regressor', 'descriptors', 'features'])
def test_a_stage_runs_as_a_module(stage, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [stage, '--help'])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f'aprloc_ros.training.stages.{stage}', run_name='__main__')
    shown = capsys.readouterr()
    assert end.value.code == 0 and '--data' in shown.out and not shown.err


def test_a_second_drive_calibrates_the_map_and_trains_nothing(wall, finished, tmp_path, capsys):
    before, directory = load_map(finished, 'cpu').manifest, tmp_path / 'maps' / 'wall'
    shutil.copytree(finished, directory)
    drive = write_wall(tmp_path / 'second', late=0.3)
    assert main(['calibrate', 'wall', '--data', str(drive), '--map-dir', str(directory.parent), '--device', 'cpu']) == 0
    after = load_map(directory, 'cpu').manifest
    assert after.data.calibration == 'second' and not before.data.calibration
    assert (after.regressor, after.field, after.descriptors) == (before.regressor, before.field, before.descriptors)   # hashes
    assert {path.name for path in directory.iterdir()} == {path.name for path in finished.iterdir()}
    assert after.accuracy == before.accuracy
    assert after.refiners['nre'].gate.frames == TRAIN + TEST > before.refiners['nre'].gate.frames
    assert not torch.equal(after.covariance, before.covariance)
    assert f'{TRAIN + TEST} frames to calibrate on' in capsys.readouterr().out


def test_the_capture_of_a_map_calibrates_it_as_the_build_did(wall, finished, tmp_path, capsys):
    before, directory = load_map(finished, 'cpu').manifest, tmp_path / 'maps' / 'wall'
    shutil.copytree(finished, directory)
    assert main(['calibrate', 'wall', '--data', str(wall), '--map-dir', str(directory.parent), '--device', 'cpu']) == 0
    after = load_map(directory, 'cpu').manifest
    assert after.data == before.data and after.refiners.keys() == before.refiners.keys()
    assert after.refiners['nre'].gate.frames == before.refiners['nre'].gate.frames
    assert 'that trained the map' in capsys.readouterr().out
