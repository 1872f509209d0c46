"""Long work that goes on where it was interrupted, as long as the same is asked for, and that one process at a time does."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from aprloc_ros.errors import AprlocError, Unwritten

_STAMP = 'request.json'
_CLAIMED: dict[Path, int] = {}   # open folders: the system gives them free when the process ends, however it does


def resume(folder: Path, request: str, say: Callable[[str], None]) -> None:
    """The folder with what an interrupted run of the same request left there, or emptied for this one.

    Raises AprlocError where another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder)
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text() == request:
        say(f'continuing the interrupted run in {folder}')
        return
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    stamp.write_text(request)


def claim(folder: Path) -> None:
    """Keep a folder that is there, a map's say, for this process alone. AprlocError where another one has it, and where it may not be
    written to: that would be found out after minutes of work.
    """
    folder = folder.resolve()
    if not os.access(folder, os.W_OK):
        raise AprlocError(f'{folder} may not be written to, so nothing there can be changed')
    if folder in _CLAIMED:
        os.close(_CLAIMED.pop(folder))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AprlocError(f'{folder}: another aprloc is at work there; wait until it has ended, or end it') from None
    except OSError:   # a file system that knows no locks
        pass
    _CLAIMED[folder] = descriptor


@contextlib.contextmanager
def gone_at_the_end(folder: Path) -> Iterator[None]:
    """The folder goes with the work, and with an error that the same request would meet again: not with an interruption, nor
    when the disk is full.
    """
    try:
        yield
    except Unwritten:
        raise
    except AprlocError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)
