"""The presets and the settings that a user lays over them."""

from dataclasses import replace

import pytest
import torch
import yaml

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields import build_field
from aprloc_ros.networks import build_regressor
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.presets import PRESETS, Preset, load_preset
from aprloc_ros.training.stages.field import FieldTraining, field_arguments
from aprloc_ros.training.stages.regressor import RegressorTraining

SCENE = SceneNormalisation(torch.eye(4).double(), 2.0, 1.0, 0.5, 6.0, torch.tensor([[-1.0, -1, -1], [1.0, 1, 1]]))


def overlay(path, **values):
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_survives_yaml_and_its_models_can_be_built(name):
    preset = load_preset(name)
    assert from_mapping(Preset, yaml.safe_load(yaml.safe_dump(to_mapping(preset))), 'yaml') == preset
    build_field(preset.field.kind, field_arguments(preset.field, SCENE))
    with torch.device('meta'):
        build_regressor(preset.regressor.kind, preset.regressor.arguments)


def test_the_paper_preset_has_the_papers_numbers():
    preset = load_preset('paper')
    field, regressor = preset.field, preset.regressor
    assert (field.kind, field.epochs, field.total_steps(1000)) == ('nefes', 600, 600_000)
    assert (regressor.arguments['backbone'], regressor.learning_rate, regressor.patience) == ('vgg16', 1e-4, 200)
    assert regressor.total_steps(100) == regressor.epochs * 25 and regressor.epoch_steps(100) == 25


def test_both_presets_pass_through_an_overlay(tmp_path):
    """Values that are not named stay, nested ones included; a network's arguments are replaced as a whole."""
    path = overlay(tmp_path / 'a.yaml', field={'rays': 77}, regressor={'arguments': {'backbone': 'resnet34'}})
    for name, base in PRESETS.items():
        changed = load_preset(name, path)
        assert changed.field == replace(base.field, rays=77)
        assert changed.regressor == replace(base.regressor, arguments={'backbone': 'resnet34'})
        assert changed.max_sift_frames == base.max_sift_frames


def test_a_file_lies_over_the_preset_in_yaml_types(tmp_path):
    path = overlay(tmp_path / 'a.yaml', regressor={'triplet_levels': [0, 2], 'learning_rate': 1}, max_sift_frames=9)
    changed = load_preset('small', path)
    assert changed.regressor.triplet_levels == (0, 2) and changed.regressor.learning_rate == 1.0
    assert changed.max_sift_frames == 9


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    path = overlay(tmp_path / 'a.yaml', max_sift_frames=9)
    path.write_bytes(path.read_text().encode(encoding))
    assert load_preset('small', path).max_sift_frames == 9


@pytest.mark.parametrize('values, parts', [
    ({'fields': {}}, ['unknown key fields', 'field, regressor']),
    ({'field': {'ray': 3}}, ['unknown key field.ray', 'rays']),
    ({'field': {'rays': 'many'}}, ['field.rays', "'many'", 'whole number']),
    ({'field': {'rays': True}}, ['field.rays', 'True']),
    ({'field': {'rays': 0}}, ['field.rays', '0', 'from 1 to 1000000']),
    ({'field': {'kind': 'mesh'}}, ['field.kind', "'mesh'", 'planes, nerf_hist, nerf']),
    ({'regressor': {'learning_rate': -1.0}}, ['regressor.learning_rate', '-1.0', 'from 1e-08 to 1.0']),
    ({'regressor': {'triplet_levels': [0, 3]}}, ['regressor.triplet_levels[1]', '3', '0, 1, 2']),
    ({'regressor': {'validate_every': -1}}, ['regressor.validate_every', '-1', 'from 0 to']),
    ({'field': {'steps': 0, 'epochs': 0}}, ['field', 'steps and epochs are both 0']),
    ({'regressor': {'steps': 0}}, ['regressor', 'steps and epochs are both 0']),
    ({'field': 3}, ['field must be a mapping', '3']),
    ({'max_sift_frames': 1}, ['max_sift_frames', '1', 'from 2 to'])])
def test_bad_settings_are_refused_with_key_value_and_range(tmp_path, values, parts):
    path = overlay(tmp_path / 'bad.yaml', **values)
    with pytest.raises(AprlocError) as caught:
        load_preset('small', path)
    message = str(caught.value)
    assert '\n' not in message
    for part in ['bad.yaml', *parts]:
        assert part in message, message


@pytest.mark.parametrize('content', [b'a: [', b'\xff\xfe\x00', b'- 1\n- 2\n', b'', None])
def test_an_unreadable_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / 'bad.yaml'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AprlocError, match=r'bad\.yaml') as caught:
        load_preset('small', path)
    assert '\n' not in str(caught.value)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(AprlocError, match="preset 'huge' is not one of small, paper"):
        load_preset('huge')


@pytest.mark.parametrize('kind', [FieldTraining, RegressorTraining])
def test_a_training_without_a_length_is_refused(kind):
    with pytest.raises(AprlocError, match='steps and epochs are both 0'):
        kind()
    assert kind(epochs=2).total_steps(8) > 0 and kind(steps=5, epochs=2).total_steps(8) == 5
