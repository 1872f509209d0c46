"""The maps that there are: where they are looked for, what they may be called, what `aprloc maps` lists. No torch."""

import difflib
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

from aprloc_ros.errors import AprlocError
from aprloc_ros.table import aligned
from aprloc_ros.whole_files import mend_if_left

FILE_NAME = 'map.yaml'
USER_MAPS = Path('~/.ros/aprloc/maps')
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,63}')
_MAX_BYTES = 256 * 1024
_NAMED = 12   # maps that a message names
_PUBLIC_SCENES = {
    'Cambridge Landmarks': ('kings', 'KingsCollege', 'OldHospital', 'ShopFacade', 'StMarysChurch', 'GreatCourt'),
    '7-Scenes': ('chess', 'fire', 'heads', 'office', 'pumpkin', 'redkitchen', 'stairs')}


class Kind(NamedTuple):
    """Of what is kept in a directory of its own: the file that says what it is, its name, and how to get another one."""

    file_name: str
    what: str
    cure: str


MAP = Kind(FILE_NAME, 'a map', 'rebuild the map with aprloc build')
ATLAS = Kind('atlas.yaml', 'an atlas', 'make it again with aprloc atlas')


def check_map_name(name: str) -> str:
    """The name of a map, which is also its directory's: no separators, no dots. AprlocError otherwise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise AprlocError(f'map name {str(name)[:80]!r} is not allowed; use 1 to 64 letters, digits, _ and -, '
                          f'a letter or digit first')
    return name


def search_path(map_dir: str | Path | None = None) -> list[Path]:
    """The directories in which maps are looked for, in order."""
    places = [Path(map_dir)] if map_dir else []
    places += [Path(p) for p in os.environ.get('APRLOC_MAP_PATH', '').split(':') if p]
    places.append(USER_MAPS)
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(':') if p] + [sys.prefix]
    places += [Path(prefix) / 'share/aprloc_ros/maps' for prefix in prefixes]
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / 'package.xml').is_file():
        places.append(checkout / 'maps')
    return list(dict.fromkeys(p.expanduser() for p in places))


def list_maps(map_dir: str | Path | None = None, kind: Kind = MAP) -> dict[str, Path]:
    """Name -> directory of every map on the search path, or of another kind; the first of a name wins."""
    found = {}
    for directory in search_path(map_dir):
        for left in (*directory.glob('.*.old'), *directory.glob('.*.partial')):
            _mend(directory / left.stem.removeprefix('.'))
        for path in sorted(directory.glob(f'*/{kind.file_name}')):
            if not path.parent.name.startswith('.'):
                found.setdefault(path.parent.name, path.parent)
    return found


def find_map(name: str, map_dir: str | Path | None = None) -> Path:
    """The directory of the named map, the first on the search path. AprlocError says how to build one."""
    check_map_name(name)
    places = search_path(map_dir)
    for directory in places:
        _mend(directory / name)
        if (directory / name / FILE_NAME).is_file():
            return directory / name
    if find_atlas(name, map_dir):
        raise AprlocError(f'{name} is an atlas, which aprloc localize alone takes; give one of its maps')
    raise AprlocError(f'no map {name} in {", ".join(map(str, places))}; {_others(name, list(list_maps(map_dir)))}'
                      f'build it with: aprloc build {name} --data PATH{_download_hint(name)}')


def find_atlas(name: str, map_dir: str | Path | None = None) -> Path | None:
    """The directory of the atlas of that name, where it is what the name stands for first on the search path; else None."""
    for directory in (place / check_map_name(name) for place in search_path(map_dir)):
        _mend(directory)
        is_map, is_atlas = ((directory / kind.file_name).is_file() for kind in (MAP, ATLAS))
        if is_map and is_atlas:
            raise AprlocError(f'{directory}: holds a map and an atlas; move the files of one of them')
        if is_map or is_atlas:
            return directory if is_atlas else None
    return None


def _mend(directory: Path) -> None:
    """Make a map or an atlas whole that a killed command was replacing."""
    waiting = directory.with_name(f'.{directory.name}.old')
    if any((place / kind.file_name).is_file() for place in (directory, waiting) for kind in (MAP, ATLAS)):
        mend_if_left(directory)


def _others(name: str, there: list[str]) -> str:
    """The maps that there are, the one first that may be meant."""
    if not there:
        return ''
    meant = [f'did you mean {alike}? ' for alike in difflib.get_close_matches(name, there, 1)]
    more = ' ...' if len(there) > _NAMED else ''
    return f'{"".join(meant)}there are: {", ".join(there[:_NAMED])}{more}; '


def maps_table(map_dir: str | Path | None = None) -> str:
    """Every map and atlas on the search path, a row each, with units; then those that cannot be read, and why."""
    found = [(name, directory, describe) for kind, describe in ((MAP, describe_map), (ATLAS, describe_atlas))
             for name, directory in list_maps(map_dir, kind).items()]
    rows, broken = [], []
    if not found:
        return f'no map in {", ".join(map(str, search_path(map_dir)))}; build one with: aprloc build NAME --data PATH'
    for name, directory, describe in found:
        try:
            rows.append({'map': name, **describe(directory), 'folder': str(directory)})
        except AprlocError as error:
            broken.append(f'{name} is BROKEN: {error}')
    table = [aligned([list(rows[0]), *(list(row.values()) for row in rows)])] if rows else []
    return '\n'.join([*table, *broken])


def describe_map(directory: Path) -> dict[str, str]:
    """What a map says of itself, column of `aprloc maps` -> text. Loading checks the rest.

    Raises AprlocError for a map.yaml that cannot be read or does not say it.
    """
    path = directory / FILE_NAME
    try:
        mapping = read_map_yaml(path)
        accuracy = dict(mapping['accuracy'])
        return {'median error': _error(accuracy, 'median'), '95 % below': _error(accuracy, 'p95'),
                'judged on': f'{accuracy["frames"]:.0f} images' if 'frames' in accuracy else '-',
                'size': _size(directory), 'preset': str(mapping['build']['preset']), 'field': str(mapping['field']['kind'])}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AprlocError(f'{path}: does not say what it is (build, field, accuracy); {MAP.cure}') from None


def describe_atlas(directory: Path) -> dict[str, str]:
    """The same of an atlas, whose maps stand where a map has its field; each of them says how accurate it is."""
    path = directory / ATLAS.file_name
    try:
        places = list(read_map_yaml(path, ATLAS)['places'])
        frames = sum(place['accuracy']['frames'] for place in places)
        return {'median error': '-', '95 % below': '-', 'judged on': f'{frames:.0f} images', 'size': _size(directory), 'preset': 'atlas',
                'field': f'of {", ".join(str(place["map"]) for place in places)}'}
    except (KeyError, TypeError, ValueError):
        raise AprlocError(f'{path}: does not say of which maps it is; {ATLAS.cure}') from None


def _size(directory: Path) -> str:
    return f'{sum(file.stat().st_size for file in directory.iterdir()) / 1e6:.1f} MB'


def _error(accuracy: dict, which: str) -> str:
    known = [(f'{which}_{unit}', unit, digits) for unit, digits in (('m', 3), ('deg', 2)) if f'{which}_{unit}' in accuracy]
    return ', '.join(f'{accuracy[key]:.{digits}f} {unit}' for key, unit, digits in known) or '-'


def read_map_yaml(path: Path, kind: Kind = MAP) -> object:
    """The parsed map.yaml, or the file of another kind. AprlocError begins with the path and ends with the cure."""
    try:
        with path.open('rb') as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise AprlocError(f'{path}: is larger than {_MAX_BYTES} bytes; {kind.cure}')
        return yaml.load(content, _PlainLoader)
    except OSError as error:
        raise AprlocError(f'{path}: {error.strerror}; {kind.cure}') from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise AprlocError(f'{path}: not readable YAML ({_one_line(error)}); {kind.cure}') from None


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: a few hundred bytes of nested ones stand for gigabytes."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError('aliases are not allowed')
        return super().compose_node(parent, index)


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())[:200]


def _download_hint(name: str) -> str:
    for dataset, scenes in _PUBLIC_SCENES.items():
        for scene in scenes:
            if scene.lower() == name.lower():
                scene = 'KingsCollege' if scene == 'kings' else scene
                return f' (PATH: the scene {scene} of the {dataset} dataset, downloaded from its own site)'
    return ''
