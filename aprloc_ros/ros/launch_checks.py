"""What can be wrong with a launch argument, known before any process starts. No torch: launch holds what it imports.

Whatever is wrong raises AprlocError, of one line.
"""

import difflib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import yaml

from aprloc_ros.errors import AprlocError

_ALIKE = 0.75   # of difflib: rvis and rviz, paramfile and params_file


def check_names(namespace: str, **topics: str) -> None:
    """Names that ROS takes: a namespace, empty or with or without its leading slash, and topics as seen from there."""
    from rclpy.exceptions import NameValidationException
    from rclpy.expand_topic_name import expand_topic_name
    from rclpy.validate_full_topic_name import validate_full_topic_name
    from rclpy.validate_namespace import validate_namespace

    from_root = f'/{namespace.lstrip("/")}'
    argument = f'namespace:={namespace}'
    try:
        validate_namespace(from_root)
        for name, topic in topics.items():
            argument = f'{name}:={topic}'
            validate_full_topic_name(expand_topic_name(topic, 'relocalize', from_root))
    except (NameValidationException, ValueError) as error:
        raise AprlocError(f'{argument}: {_first_line(error).split(", at ")[0]}') from None   # rcl adds its source line


def check_frame_prefix(prefix: str) -> None:
    """What may begin the name of a frame."""
    if prefix.startswith('/'):
        raise AprlocError(f'frame_prefix:={prefix}: TF takes no frame with a leading slash; leave it out')


def check_rviz(config: Path) -> None:
    """rviz:=true can be had: its package, its executable and our file for it are there."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        executable = Path(get_package_prefix('rviz2')) / 'lib/rviz2/rviz2'
    except PackageNotFoundError:
        raise AprlocError('rviz:=true needs the package rviz2, which is not installed: sudo apt install '
                          'ros-$ROS_DISTRO-rviz2, or leave rviz:=true out') from None
    for path, mode in ((executable, os.X_OK), (config, os.R_OK)):
        if not (path.is_file() and os.access(path, mode)):
            raise AprlocError(f'rviz:=true needs {path}, which is missing or not yours to use: install its package anew')


def check_directory(argument: str, path: Path) -> None:
    """Files can be written there; it need not exist yet."""
    existing = next(place for place in [path.absolute(), *path.absolute().parents] if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise AprlocError(f'{argument}:={path}: {existing} is not a folder that may be written to')


def read_rate(text: str) -> float:
    """How many times the bag's own pace."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 100:
        raise AprlocError(f'rate:={text} must be a number above 0, up to 100')
    return rate


def read_parameters_file(path: Path, node: str) -> list[dict]:
    """Every block of ros__parameters of a YAML file that is the node's, by its full name such as /robot1/relocalize.

    A file that has parameters of others alone is refused: ROS would start the node with its defaults, without a word.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise AprlocError(f'params_file:={path}: {error.strerror}') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, 'problem_mark', None)
        line = f'line {mark.line + 1}: ' if mark else ''
        raise AprlocError(f'params_file:={path}: not YAML: {line}{getattr(error, "problem", None) or _first_line(error)}'
                          ) from None
    blocks = list(_blocks(tree, ''))
    if tree is not None and not blocks:
        raise AprlocError(f'params_file:={path}: names no parameters; it must hold NODE: ros__parameters: NAME: VALUE')
    for _, block in blocks:
        if not isinstance(block, dict):
            raise AprlocError(f'params_file:={path}: ros__parameters must be names and values, not {str(block)[:80]!r}')
    own = [block for name, block in blocks if _matches(name, node)]
    if blocks and not own:
        raise AprlocError(f'params_file:={path}: has parameters of {", ".join(name for name, _ in blocks)}, none of {node}: write '
                          f'/** or {node} in place of that name')
    return own


def map_dir_in(blocks: Iterable[dict]) -> str | None:
    """The parameter map_dir."""
    found = [block['map_dir'] for block in blocks if block.get('map_dir')]
    return str(found[-1]) if found else None


def mistyped(command_line: Iterable[str], declared: Collection[str]) -> list[str]:
    """A line for each argument that launch would ignore though it looks like a declared one.

    command_line: as launch has it, NAME:=VALUE. Others may belong to a launch file around this one.
    """
    names = [word.split(':=')[0] for word in command_line if ':=' in word]
    alike = {name: difflib.get_close_matches(name, declared, 1, _ALIKE) for name in names if name not in declared}
    return [f'{name}:= is ignored, it is no argument of this launch file; did you mean {close[0]}:= ?'
            for name, close in alike.items() if close]


def _blocks(tree: object, above: str) -> Iterator[tuple[str, object]]:
    """Blocks of parameters, each with the name of the node that it is of."""
    for name, branch in tree.items() if isinstance(tree, dict) else ():
        yield from [(above, branch)] if name == 'ros__parameters' else _blocks(branch, f'{above}/{str(name).strip("/")}')


def _matches(name: str, node: str) -> bool:
    """As rcl reads it: * stands for one part of a name, ** for any number of them."""
    wild = {'*': r'/\w+', '**': r'(/\w+)*'}
    return re.fullmatch(''.join(wild.get(part, '/' + re.escape(part)) for part in name.strip('/').split('/')), node) is not None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0].rstrip(':. ')
