"""Frozen dataclasses from plain mappings (YAML, ROS parameters) and back, strictly.

A field's metadata may hold `range` (lowest, highest; None: open), `choices` (a tuple), both of which also hold for
the elements of a tuple, list or dict, and for a Tensor `shape`.
"""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError

T = typing.TypeVar('T')
_SCALARS = {bool: 'true or false', int: 'a whole number', float: 'a finite number', str: 'a text'}


def from_mapping(cls: type[T], mapping: Mapping, where: str) -> T:
    """The dataclass `cls` filled from `mapping`; `where` (a file or a node's name) begins every error.

    Raises AprlocError for unknown and missing keys, wrong types (a bool is no number; a whole number is also a
    float) and values outside the field's range or choices, naming key, value and what is allowed.
    """
    return _build(cls, mapping, where, '')


def to_mapping(obj: object) -> object:
    """The inverse of from_mapping: dataclasses to dicts, tuples and tensors to lists, paths to texts.

    Subclasses of plain types (NumPy's float64, torch.__version__) become plain.
    """
    if dataclasses.is_dataclass(obj):
        return {f.name: to_mapping(getattr(obj, f.name)) for f in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        return {key: to_mapping(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [to_mapping(value) for value in obj]
    if isinstance(obj, Tensor):
        return obj.tolist()
    if obj is None or isinstance(obj, bool):
        return obj
    for kind in (int, float):
        if isinstance(obj, kind):
            return kind(obj)
    return str(obj)


def _build(cls: type[T], mapping: Mapping, where: str, prefix: str) -> T:
    if not isinstance(mapping, Mapping):
        raise AprlocError(f'{where}: {prefix.rstrip(".") or "the content"} must be a mapping of names to values, '
                          f'not {reprlib.repr(mapping)}')
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in mapping:
        if key not in fields:
            raise AprlocError(f'{where}: unknown key {prefix}{_name(key)}; known are {", ".join(fields)}')
    for name, f in fields.items():
        if name not in mapping and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise AprlocError(f'{where}: the key {prefix}{name} is missing')
    hints = typing.get_type_hints(cls)
    values = {key: _convert(value, hints[key], fields[key].metadata, where, prefix + key)
              for key, value in mapping.items()}
    try:
        return cls(**values)
    except AprlocError as error:
        raise AprlocError(f'{where}: {prefix.rstrip(".")}{": " if prefix else ""}{error}') from None


def _convert(value: object, kind: object, metadata: Mapping, where: str, key: str) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where, key + '.')
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, metadata, where, key)
    if origin in (tuple, list):
        return _convert_sequence(value, origin, arguments, metadata, where, key)
    if origin is dict:
        if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
            raise _refusal(where, key, value, 'a mapping of texts to values')
        return {k: _convert(v, arguments[1], metadata, where, f'{key}.{_name(k)}') for k, v in value.items()}
    if origin is typing.Literal:
        return _check_allowed(value, {'choices': arguments}, where, key)
    if kind is Tensor:
        return _convert_tensor(value, metadata, where, key)
    if kind is typing.Any:
        return _convert_plain(value, where, key)
    return _check_allowed(_convert_scalar(value, kind, where, key), metadata, where, key)


def _convert_scalar(value: object, kind: type, where: str, key: str) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (bool, int, str) and type(value) is kind:
        return value
    expected = _SCALARS.get(kind, 'a path' if kind is Path else f'a {kind}')
    if isinstance(value, str) and kind is float:
        expected += ' (YAML reads 1e-4 as a text: write 1.0e-4)'
    raise _refusal(where, key, value, expected)


def _convert_union(value: object, kinds: tuple, metadata: Mapping, where: str, key: str) -> object:
    if value is None and type(None) in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not type(None)]
    for kind in kinds[:-1]:
        try:
            return _convert(value, kind, metadata, where, key)
        except AprlocError:
            continue
    return _convert(value, kinds[-1], metadata, where, key)


def _convert_sequence(value: object, origin: type, kinds: tuple, metadata: Mapping, where: str, key: str) -> object:
    if not isinstance(value, (list, tuple)):
        raise _refusal(where, key, value, 'a list')
    if origin is list or kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise _refusal(where, key, value, f'a list of {len(kinds)}')
    return origin(_convert(v, kind, metadata, where, f'{key}[{i}]') for i, (v, kind) in enumerate(zip(value, kinds)))


def _convert_tensor(value: object, metadata: Mapping, where: str, key: str) -> Tensor:
    shape = metadata['shape']
    expected = f'{"x".join(map(str, shape))} finite numbers'
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise _refusal(where, key, value, expected) from None
    if tensor.shape != shape or not torch.isfinite(tensor).all():
        raise _refusal(where, key, value, expected)
    return tensor


def _convert_plain(value: object, where: str, key: str) -> object:
    if isinstance(value, (list, tuple)):
        return [_convert_plain(v, where, f'{key}[{i}]') for i, v in enumerate(value)]
    if value is None or type(value) in _SCALARS:
        return value
    raise _refusal(where, key, value, 'a number, a text, true, false or a list of these')


def _check_allowed(value: object, metadata: Mapping, where: str, key: str) -> object:
    choices = metadata.get('choices')
    if choices is not None and not any(value == choice and type(value) is type(choice) for choice in choices):
        raise _refusal(where, key, value, 'one of ' + ', '.join(map(str, choices)))
    if 'range' in metadata and type(value) in (int, float):
        lowest, highest = metadata['range']
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            raise _refusal(where, key, value, _describe_range(lowest, highest))
    return value


def _describe_range(lowest: float | None, highest: float | None) -> str:
    if highest is None:
        return f'at least {lowest}'
    return f'at most {highest}' if lowest is None else f'from {lowest} to {highest}'


def _name(key: object) -> str:
    """A key as it is when it is a plain name, its short repr otherwise: errors stay on one line."""
    return key if isinstance(key, str) and key.isidentifier() and len(key) < 64 else reprlib.repr(key)


def _refusal(where: str, key: str, value: object, expected: str) -> AprlocError:
    return AprlocError(f'{where}: {key} is {reprlib.repr(value)}; it must be {expected}')
