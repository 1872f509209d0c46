"""The exceptions that a user is meant to see, and paths in the commands that they advise."""

import shlex
from pathlib import Path


class AprlocError(Exception):
    """A mistake in the input: its message is one line that names the value, the allowed range and what to do."""


class Unwritten(AprlocError):
    """A file cannot be written, because the disk is full say: no mistake, and the same request goes on once it can."""


def typed(path: str | Path) -> str:
    """A path as a shell takes it, spaces and all."""
    return shlex.quote(str(path))
