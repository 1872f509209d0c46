import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError


@dataclass(frozen=True)
class Optimiser:
    rate: float = field(default=1e-4, metadata={'range': (0.0, 1.0)})
    kind: Literal['adam', 'sgd'] = 'adam'


@dataclass(frozen=True)
class Everything:
    steps: int = field(metadata={'range': (1, None)})
    optimiser: Optimiser = Optimiser()
    verbose: bool = False
    seed: int | None = None
    sizes: tuple[int, ...] = field(default=(), metadata={'range': (1, 4096)})
    pair: tuple[str, float] = ('a', 0.0)
    names: list[str] = field(default_factory=list)
    accuracy: dict[str, float] = field(default_factory=dict)
    stages: tuple[Optimiser, ...] = ()
    output: Path | None = None
    limit: int | str = 0
    level: int = field(default=2, metadata={'choices': (1, 2, 3)})
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Matrix:
    values: Tensor = field(metadata={'shape': (2, 2)})


FULL = {
    'steps': 5, 'optimiser': {'rate': 1, 'kind': 'sgd'}, 'verbose': True, 'seed': 7, 'sizes': [1, 2], 'pair': ['b', 2],
    'names': ['x'], 'accuracy': {'median_m': 0.5}, 'stages': [{'rate': 0.5}], 'output': '/tmp/x', 'limit': 'none',
    'level': 3, 'arguments': {'width': 0.25, 'sizes': [1, 2], 'pool': None}}


def test_every_type_is_converted():
    config = from_mapping(Everything, FULL, 'preset.yaml')
    assert config == Everything(
        5, Optimiser(1.0, 'sgd'), True, 7, (1, 2), ('b', 2.0), ['x'], {'median_m': 0.5}, (Optimiser(0.5),), Path('/tmp/x'),
        'none', 3, {'width': 0.25, 'sizes': [1, 2], 'pool': None})
    assert type(config.optimiser.rate) is float and type(config.pair[1]) is float


def test_defaults_stay():
    assert from_mapping(Everything, {'steps': 1}, 'x') == Everything(1)


def test_to_mapping_is_the_inverse():
    config = from_mapping(Everything, FULL, 'x')
    assert from_mapping(Everything, to_mapping(config), 'x') == config
    plain = to_mapping({'a': np.float64(0.5), 'b': torch.__version__, 'c': True, 'd': None})
    assert [type(value) for value in plain.values()] == [float, str, bool, type(None)]


def test_tensors_are_nested_lists():
    matrix = from_mapping(Matrix, {'values': [[1, 2], [3, 4.5]]}, 'x')
    assert matrix.values.dtype == torch.float64 and to_mapping(matrix) == {'values': [[1.0, 2.0], [3.0, 4.5]]}


@pytest.mark.parametrize('change, message', [
    ({'stepz': 1}, 'preset.yaml: unknown key stepz; known are steps, optimiser, '),
    ({'optimiser': {'speed': 1}}, 'preset.yaml: unknown key optimiser.speed; known are rate, kind'),
    ({7: 1}, 'preset.yaml: unknown key 7; known are'),
    ({'steps': 0}, 'preset.yaml: steps is 0; it must be at least 1'),
    ({'steps': True}, 'preset.yaml: steps is True; it must be a whole number'),
    ({'steps': 1.0}, 'preset.yaml: steps is 1.0; it must be a whole number'),
    ({'steps': None}, 'preset.yaml: steps is None; it must be a whole number'),
    ({'verbose': 1}, 'preset.yaml: verbose is 1; it must be true or false'),
    ({'optimiser': {'rate': 1.5}}, 'preset.yaml: optimiser.rate is 1.5; it must be from 0.0 to 1.0'),
    ({'optimiser': {'rate': True}}, 'preset.yaml: optimiser.rate is True; it must be a finite number'),
    ({'optimiser': {'rate': math.nan}}, 'preset.yaml: optimiser.rate is nan; it must be a finite number'),
    ({'optimiser': {'rate': '1e-4'}}, "preset.yaml: optimiser.rate is '1e-4'; it must be a finite number (YAML reads"),
    ({'optimiser': {'kind': 'lion'}}, "preset.yaml: optimiser.kind is 'lion'; it must be one of adam, sgd"),
    ({'optimiser': 3}, 'preset.yaml: optimiser must be a mapping of names to values, not 3'),
    ({'sizes': [1, 0]}, 'preset.yaml: sizes[1] is 0; it must be from 1 to 4096'),
    ({'sizes': 3}, 'preset.yaml: sizes is 3; it must be a list'),
    ({'pair': ['a']}, "preset.yaml: pair is ['a']; it must be a list of 2"),
    ({'accuracy': {'psnr_db': 'good'}}, "preset.yaml: accuracy.psnr_db is 'good'; it must be a finite number"),
    ({'accuracy': {1: 1.0}}, 'preset.yaml: accuracy is {1: 1.0}; it must be a mapping of texts to values'),
    ({'stages': [{'rate': 2}]}, 'preset.yaml: stages[0].rate is 2.0; it must be from 0.0 to 1.0'),
    ({'seed': 'x'}, "preset.yaml: seed is 'x'; it must be a whole number"),
    ({'output': ''}, "preset.yaml: output is ''; it must be a path"),
    ({'level': 4}, 'preset.yaml: level is 4; it must be one of 1, 2, 3'),
    ({'level': True}, 'preset.yaml: level is True; it must be a whole number'),
    ({'arguments': {'f': print}}, 'preset.yaml: arguments.f is <built-in'),
    ({'names': ['two\nlines', 3]}, 'preset.yaml: names[1] is 3; it must be a text')])
def test_a_mistake_is_named_in_one_line(change, message):
    with pytest.raises(AprlocError) as caught:
        from_mapping(Everything, FULL | change, 'preset.yaml')
    assert str(caught.value).startswith(message) and '\n' not in str(caught.value)


def test_a_missing_key_is_named():
    with pytest.raises(AprlocError, match='preset.yaml: the key steps is missing'):
        from_mapping(Everything, {}, 'preset.yaml')


@pytest.mark.parametrize('values', [[[1, 2]], [[1, 2], [3]], [[1, 2], [3, math.inf]], 'eye', None, {'a': 1}])
def test_what_is_no_matrix_is_refused(values):
    with pytest.raises(AprlocError, match='must be 2x2 finite numbers'):
        from_mapping(Matrix, {'values': values}, 'x')


def test_what_the_class_itself_refuses_names_the_place():
    with pytest.raises(AprlocError, match="robot.yaml: camera model 'brown'"):
        from_mapping(Camera, {'width': 4, 'height': 4, 'fx': 1, 'fy': 1, 'cx': 0, 'cy': 0, 'model': 'brown'}, 'robot.yaml')
