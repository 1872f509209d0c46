"""Room on the disk for COLMAP's databases: where it ends, COLMAP ends the process or raises what is no error of files."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from aprloc_ros.errors import Unwritten

_NONE = 1 << 20           # bytes: less is as good as none
_FULL = 'disk is full'    # SQLite's words


@contextlib.contextmanager
def room_for(needed: int, folder: Path) -> Iterator[None]:
    """Unwritten before the work where so many bytes do not fit on the folder's disk, and when it gets full meanwhile."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Unwritten(f'{folder}: {free >> 20} MB are free on this disk, and up to {needed >> 20} MB are needed for a while; make room')
    try:
        yield
    except RuntimeError as error:
        if _FULL in str(error) or shutil.disk_usage(folder).free < _NONE:
            raise Unwritten(f'{folder}: no space left on the disk; make room, and the same command goes on') from None
        raise
