import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save, save_file
from tiny_map import CAMERA, T_MAP_SCENE, save_tiny_map, tiny_manifest, tiny_models

from aprloc_ros.camera import Camera
from aprloc_ros.catalogue import find_map, list_maps
from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import FIELD_FILE, REGRESSOR_FILE, load_map, save_map


@pytest.fixture
def saved(tmp_path):
    return save_tiny_map(tmp_path / 'tiny')


def refused(directory):
    """The message with which the map is refused: one line that says what to do."""
    with pytest.raises(AprlocError) as caught:
        load_map(directory, 'cpu')
    message = str(caught.value)
    assert '\n' not in message and message.endswith('rebuild the map with aprloc build')
    return message


def edit_manifest(directory, **changes):
    content = yaml.safe_load((directory / 'map.yaml').read_text())
    content.update(changes)
    (directory / 'map.yaml').write_text(yaml.safe_dump(content))


def rehash(directory, file_name, key):
    """Make the manifest agree with a weights file that was tampered with."""
    spec = yaml.safe_load((directory / 'map.yaml').read_text())[key]
    spec['sha256'] = hashlib.sha256((directory / file_name).read_bytes()).hexdigest()
    edit_manifest(directory, **{key: spec})


def test_a_saved_map_loads_equal(saved):
    regressor, field = tiny_models()
    bundle = load_map(saved, 'cpu')
    manifest = bundle.manifest
    written = replace(tiny_manifest(), regressor=manifest.regressor, field=manifest.field, scene=manifest.scene)
    assert to_mapping(manifest) == to_mapping(written)
    assert manifest.camera == CAMERA
    torch.testing.assert_close(bundle.manifest.scene.T_map_scene, T_MAP_SCENE, atol=1e-14, rtol=0)
    for model, loaded in ((regressor, bundle.regressor), (field, bundle.field)):
        assert not loaded.training
        for name, value in model.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], value, rtol=2 ** -11, atol=2 ** -25)
    assert bundle.regressor.state_dict()['head.fc.weight'].dtype == torch.float32
    image = torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        torch.testing.assert_close(bundle.regressor(image), regressor.eval()(image), atol=2e-3, rtol=0)


def test_weights_are_stored_in_half_precision(saved):
    regressor, field = tiny_models()
    assert load_file(saved / REGRESSOR_FILE)['head.fc.weight'].dtype == torch.float16
    numbers = sum(t.numel() for model in (regressor, field) for t in model.state_dict().values())
    size = load_map(saved, 'cpu').size_bytes
    assert size == sum(path.stat().st_size for path in saved.iterdir())
    assert 2 * numbers < size < 2 * numbers + 60_000


def test_what_half_precision_cannot_hold_stays_single(tmp_path):
    regressor, field = tiny_models()
    with torch.no_grad():
        regressor.head.fc.bias[0] = 1e6
    directory = save_map(tmp_path / 'tiny', tiny_manifest(), regressor, field)
    assert load_map(directory, 'cpu').regressor.head.fc.bias[0] == 1e6


def test_diverged_weights_are_not_saved(tmp_path):
    regressor, field = tiny_models()
    with torch.no_grad():
        regressor.head.fc.bias[0] = torch.nan
    with pytest.raises(AprlocError, match='head.fc.bias hold NaN'):
        save_map(tmp_path / 'tiny', tiny_manifest(), regressor, field)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['map.yaml', REGRESSOR_FILE, FIELD_FILE])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert f'{saved / name}: No such file' in refused(saved)


@pytest.mark.parametrize('name', [REGRESSOR_FILE, FIELD_FILE])
def test_truncated_weights_are_refused(saved, name):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:len(content) // 2])
    assert f'{saved / name}: damaged' in refused(saved)


@pytest.mark.parametrize('position', [9, -1])
def test_a_flipped_bit_is_refused(saved, position):
    content = bytearray((saved / FIELD_FILE).read_bytes())
    content[position] ^= 1
    (saved / FIELD_FILE).write_bytes(content)
    assert f'{saved / FIELD_FILE}: damaged' in refused(saved)


def test_a_pickle_is_refused_and_not_executed(saved):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (saved / 'executed',)
    (saved / REGRESSOR_FILE).write_bytes(pickle.dumps(Bomb()))
    rehash(saved, REGRESSOR_FILE, 'regressor')
    assert 'not a safetensors file' in refused(saved)
    assert not (saved / 'executed').exists()


def test_a_python_tag_in_the_manifest_is_refused_and_not_executed(saved):
    (saved / 'map.yaml').write_text(f'name: !!python/object/apply:os.mkdir ["{saved}/executed"]')
    assert 'not readable YAML' in refused(saved)
    assert not (saved / 'executed').exists()


@pytest.mark.parametrize('change, complaint', [
    (lambda weights: weights.update({'head.fc.bias': torch.zeros(11)}), 'head.fc.bias is torch.float32 [11] but'),
    (lambda weights: weights.update({'head.fc.bias': torch.zeros(12, dtype=torch.int64)}), 'torch.int64 [12] but'),
    (lambda weights: weights.pop('head.fc.bias'), "'head.fc.bias' are missing"),
    (lambda weights: weights.update({'extra': torch.zeros(1)}), "'extra' are unknown"),
    (lambda weights: weights.update({'head.fc.bias': torch.full((12,), torch.inf)}), 'NaN or infinity')])
def test_weights_that_do_not_fit_the_model_are_refused(saved, change, complaint):
    weights = load_file(saved / REGRESSOR_FILE)
    change(weights)
    save_file(weights, saved / REGRESSOR_FILE)
    rehash(saved, REGRESSOR_FILE, 'regressor')
    assert complaint in refused(saved)


@pytest.mark.parametrize('changes, complaint', [
    ({'colour': 1}, 'unknown key colour'),
    ({'schema': 2}, 'schema is 2 but this version reads 1'),
    ({'name': '../tiny'}, "map name '../tiny' is not allowed"),
    ({'frame_id': 'a b'}, "frame_id is 'a b'"),
    ({'camera': {'width': 64}}, 'the key camera.height is missing'),
    ({'camera': to_mapping(Camera(64, 48, 60, 60, 31, 23, 'opencv', (0.1, 0, 0, 0)))}, 'it must be pinhole'),
    ({'covariance': [[0.0] * 6 for _ in range(6)]}, 'positive definite'),
    ({'covariance': 'wide'}, "covariance is 'wide'; it must be 6x6 finite numbers"),
    ({'accuracy': {'median_m': True}}, 'accuracy.median_m is True'),
    ({'regressor': {'kind': 'os.system', 'arguments': {}}}, 'damaged or not of this map')])
def test_a_wrong_manifest_is_refused(saved, changes, complaint):
    edit_manifest(saved, **changes)
    assert complaint in refused(saved)


@pytest.mark.parametrize('spec, complaint', [
    ({'kind': 'os.system'}, "'os.system' is not one of"),
    ({'arguments': {'backbone': 'mobilenet_v2', 'width': 1e9}}, 'width 1000000000.0'),
    ({'arguments': {'backdoor': 1}}, 'backdoor')])
def test_a_model_that_does_not_exist_is_refused(saved, spec, complaint):
    regressor = yaml.safe_load((saved / 'map.yaml').read_text())['regressor']
    edit_manifest(saved, regressor=regressor | spec)
    assert complaint in refused(saved)


@pytest.mark.parametrize('content, complaint', [
    (b'', 'must be a mapping'),
    (b'name: [', 'not readable YAML'),
    (b'\xff\xfe\x00', 'not readable YAML'),
    (b'x' * 300_000, 'larger than'),
    (b'[' * 100_000, 'not readable YAML'),
    (b'a: &a [1]\nb: *a', 'aliases are not allowed')],
    ids=['empty', 'open', 'binary', 'huge', 'deep', 'aliases'])
def test_a_manifest_that_is_no_manifest_is_refused(saved, content, complaint):
    (saved / 'map.yaml').write_bytes(content)
    assert complaint in refused(saved)


def test_a_directory_in_place_of_weights_is_refused(saved):
    (saved / FIELD_FILE).unlink()
    (saved / FIELD_FILE).mkdir()
    assert 'not a file' in refused(saved)


def test_what_is_not_a_map_is_not_replaced(tmp_path):
    (tmp_path / 'tiny').mkdir()
    (tmp_path / 'tiny/thesis.txt').write_text('years')
    with pytest.raises(AprlocError, match='exists and is not a map'):
        save_tiny_map(tmp_path / 'tiny')
    assert (tmp_path / 'tiny/thesis.txt').read_text() == 'years'


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(AprlocError, match='cannot be written: Not a directory'):
        save_tiny_map(tmp_path / 'file/tiny')


# Saves over maps 0 to 7, each in a process that dies just before its nth fsync or rename.
CRASHING_SAVES = '''
import os, sys
from pathlib import Path
from tiny_map import save_tiny_map

def crashing(call):
    def wrapper(*arguments):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*arguments)
    return wrapper

for calls in range(8):
    target, left = Path(sys.argv[1]) / str(calls) / 'tiny', calls
    if os.fork() == 0:
        os.fsync, os.rename = crashing(os.fsync), crashing(os.rename)
        save_tiny_map(target, seed=1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
'''


@pytest.fixture(scope='module')
def crashed_saves(tmp_path_factory):
    """The directory of the maps, and the exit codes of the saves."""
    directory = tmp_path_factory.mktemp('crashed')
    for calls in range(8):
        save_tiny_map(directory / str(calls) / 'tiny', seed=0)
    run = subprocess.run([sys.executable, '-c', CRASHING_SAVES, str(directory)], timeout=300, text=True,
                         check=True, stdout=subprocess.PIPE, env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'})
    return directory, [int(line) for line in run.stdout.split()]


@pytest.mark.parametrize('look', ['list', 'find', 'save'])
@pytest.mark.parametrize('calls, seed', [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 1), (7, 1)])
def test_after_a_crash_at_any_step_the_next_look_finds_the_old_map_or_the_new_and_nothing_else(crashed_saves, tmp_path, calls, seed, look):
    directory, codes = crashed_saves
    target = shutil.copytree(directory / str(calls), tmp_path / 'maps') / 'tiny'
    assert codes[calls] == (0 if calls == 7 else 9)
    assert sorted(os.listdir(target.parent)) == {5: ['.tiny.old', '.tiny.partial'], 6: ['.tiny.old', 'tiny'], 7: ['tiny']}.get(
        calls, ['.tiny.partial', 'tiny'])
    if look == 'save':
        save_tiny_map(target, seed=(seed := 2))
    else:
        assert (list_maps(target.parent)['tiny'] if look == 'list' else find_map('tiny', target.parent)) == target
    weights = load_map(target, 'cpu').regressor.head.fc.weight
    torch.testing.assert_close(weights, tiny_models(seed)[0].head.fc.weight.detach(), rtol=2 ** -11, atol=2 ** -25)
    assert os.listdir(target.parent) == ['tiny']


def test_what_is_being_written_is_left_alone(tmp_path, monkeypatch):
    """By a command that looks for maps between the two renames of one that saves."""
    target, rename, seen = save_tiny_map(tmp_path / 'tiny', seed=0), os.rename, []

    def looking(source, place):
        rename(source, place)
        if place.name == '.tiny.old':
            list_maps(tmp_path)
            seen.extend(sorted(os.listdir(tmp_path)))
    monkeypatch.setattr(os, 'rename', looking)
    save_tiny_map(target, seed=1)
    assert seen == ['.tiny.old', '.tiny.partial'] and os.listdir(tmp_path) == ['tiny']


def test_hidden_folders_of_others_are_left_alone(tmp_path):
    for name in ('.vim.old', '.vim.partial', '.tool.old'):
        (tmp_path / name).mkdir()
    assert 'vim' not in list_maps(tmp_path) and len(os.listdir(tmp_path)) == 3


def test_a_map_reached_through_symbolic_links_loads(saved, tmp_path):
    linked = tmp_path / 'linked'
    linked.mkdir()
    for path in saved.iterdir():
        (linked / path.name).symlink_to(path)
    assert load_map(linked, 'cpu').size_bytes > 0


def test_safetensors_bytes_of_a_save_are_repeatable(tmp_path):
    first, second = (save_tiny_map(tmp_path / name) for name in ('a', 'b'))
    assert (first / FIELD_FILE).read_bytes() == (second / FIELD_FILE).read_bytes()
    assert save(load_file(first / FIELD_FILE)) == (first / FIELD_FILE).read_bytes()


def test_an_image_without_a_camera_was_taken_by_what_took_the_drive():
    """Lens and all, at any size; an image of another aspect by the map's own rectified camera, as in maps of older versions."""
    taken_by = Camera(192, 144, 150.0, 150.0, 95.5, 71.5, 'opencv', (0.1, 0.0, 0.0, 0.0))
    manifest = replace(tiny_manifest(), taken_by=taken_by)
    assert from_mapping(Manifest, to_mapping(manifest), 'map.yaml').taken_by == taken_by
    assert manifest.source(None, 192, 144) == taken_by
    assert manifest.source(None, 96, 72) == taken_by.resized(96, 72)
    assert manifest.source(None, 144, 192) == CAMERA.resized(144, 192)
    assert tiny_manifest().source(None, 192, 144) == CAMERA.resized(192, 144)
