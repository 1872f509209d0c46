"""What is written all or nothing: synchronised beside its target, then renamed into place."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from aprloc_ros.errors import Unwritten


def replace_directory(target: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files by name to a directory, all or nothing, in place of what is there."""
    partial, _ = _beside(target)
    try:
        mend(target)
        partial.mkdir(parents=True)
        with _held(partial):
            _write_files(partial, contents)
            swap_in(partial, target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise Unwritten(f'{target}: cannot be written: {error.strerror}') from None
    return target


def swap_in(new: Path, target: Path) -> None:
    """Rename a directory into place and remove the one that was there, which is back if that fails."""
    _, old = _beside(target)
    try:
        if target.exists():
            os.rename(target, old)
        os.rename(new, target)
    except BaseException:   # Ctrl-C too
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def mend(target: Path) -> None:
    """Put back the directory that a killed process had moved aside to replace it, and remove what else it left."""
    partial, old = _beside(target)
    if partial.exists() and old.exists() and not target.exists():   # killed between its two renames
        os.rename(old, target)
    shutil.rmtree(partial, ignore_errors=True)
    if target.exists():   # else it may be all that there is
        shutil.rmtree(old, ignore_errors=True)


def mend_if_left(target: Path) -> None:
    """The same for whoever only reads, as far as it may: not while a process is writing there."""
    partial, old = _beside(target)
    if partial.exists() or old.exists():
        with (contextlib.suppress(OSError),   # a lock that is held, or a folder that is not ours to change
              _held(partial) if partial.exists() else contextlib.nullcontext()):
            mend(target)


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


def _beside(target: Path) -> tuple[Path, Path]:
    """Where the new one is written, and where the old one waits until it is in place."""
    return target.with_name(f'.{target.name}.partial'), target.with_name(f'.{target.name}.old')


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Locked for as long; the system frees it when the process ends, however it does. BlockingIOError where another holds it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:   # a file system that knows no locks
            pass
        yield
    finally:
        os.close(descriptor)


def _write_files(directory: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        _write(directory / name, content)
    _sync(directory)


def _write(path: Path, content: bytes | memoryview) -> None:
    with path.open('wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
