"""Where a command is told to write, asked before its work begins, and how it says how far it is."""

import os
from pathlib import Path

from aprloc_ros.errors import AprlocError

PROGRESS_EVERY = 25   # frames


def to_folder(path: Path) -> Path:
    """The path, of a folder that is there or can be made. AprlocError otherwise."""
    existing = next(place for place in [path.absolute(), *path.absolute().parents] if place.exists())
    if not existing.is_dir():
        raise AprlocError(f'{path}: {existing} is a file; name a folder to write to, which need not exist yet')
    if not os.access(existing, os.W_OK):
        raise AprlocError(f'{path}: {existing} may not be written to; name another folder')
    return path


def to_file(path: Path) -> Path:
    """The path, of a file that is there or can be made. AprlocError otherwise."""
    if path.is_dir():
        raise AprlocError(f'{path} is a folder; name a file in it')
    to_folder(path.parent)
    return path


def say(text: str) -> None:
    """A line that is there at once, whatever reads it."""
    print(text, flush=True)
