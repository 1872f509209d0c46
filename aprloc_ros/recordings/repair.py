"""What mends a damaged bag, by its format."""

from pathlib import Path

import yaml

from aprloc_ros.errors import typed

SUFFIXES = ('.mcap', '.db3', '.bag')
UNFINISHED = '.active'   # rosbag adds it to the name until a recording has ended
_MCAP_END = b'\x89MCAP0\r\n'


def bag_files(folder: Path) -> list[Path]:
    """The files of a bag, without what systems leave beside them, such as macOS' `._NAME`."""
    return [file for file in sorted(folder.iterdir()) if is_bag_file(file) and not file.name.startswith('.')]


def is_bag_file(file: Path) -> bool:
    """By its name; a recording of ROS 1 that never ended is one that can be mended."""
    return file.suffix in SUFFIXES or file.suffix == UNFINISHED and Path(file.stem).suffix in SUFFIXES


def repair(bag: Path) -> str:
    """The command to try on a rosbag2's folder or a single file that cannot be read."""
    files = bag_files(bag) if bag.is_dir() else [bag]
    if files and files[0].suffix == UNFINISHED:
        return f'rosbag reindex {typed(files[0])} && mv {typed(files[0])} {typed(files[0].with_suffix(""))}'
    if files and files[0].suffix == '.bag':
        return f'rosbag reindex {typed(files[0])}'
    mcaps = [file for file in files if file.suffix == '.mcap']
    damaged = [file for file in mcaps if not _is_finished(file)]
    if not damaged and (bag.is_file() or _is_sound(bag / 'metadata.yaml')):
        damaged = mcaps
    if damaged:
        return f'mcap recover {typed(damaged[0])} -o {typed(damaged[0].with_name("recovered.mcap"))}'
    return f'ros2 bag reindex {typed(bag if bag.is_dir() else bag.parent)}'


def _is_finished(mcap: Path) -> bool:
    with mcap.open('rb') as file:
        file.seek(max(0, mcap.stat().st_size - len(_MCAP_END)))
        return file.read() == _MCAP_END


def _is_sound(metadata: Path) -> bool:
    """Whether it names files that are there."""
    try:
        names = yaml.safe_load(metadata.read_text())['rosbag2_bagfile_information']['relative_file_paths']
        return all((metadata.parent / name).is_file() for name in names)
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError):
        return False
