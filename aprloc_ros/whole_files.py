"""What is written all or nothing: synchronised beside its target, then renamed into place."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from aprloc_ros.errors import Unwritten


def replace_directory(target: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files by name to a directory, all or nothing, in place of what is there."""
    partial, old = target.with_name(f'.{target.name}.partial'), target.with_name(f'.{target.name}.old')
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of an interrupted save
        _write_directory(partial, contents)
        _swap_in(partial, target, old)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise Unwritten(f'{target}: cannot be written: {error.strerror}') from None
    return target


def replace_file(target: Path, content: bytes | memoryview) -> None:
    """Write a file, all or nothing, in place of the one that is there."""
    partial = target.with_name(f'.{target.name}.partial')
    try:
        _write(partial, content)
        os.replace(partial, target)
        _sync(target.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Unwritten(f'{target}: cannot be written: {error.strerror}') from None


def _write_directory(directory: Path, contents: dict[str, bytes]) -> None:
    directory.mkdir(parents=True)
    for name, content in contents.items():
        _write(directory / name, content)
    _sync(directory)


def _write(path: Path, content: bytes | memoryview) -> None:
    with path.open('wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap_in(partial: Path, target: Path, old: Path) -> None:
    try:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(target, old)
        os.rename(partial, target)
    except BaseException:   # Ctrl-C too
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
