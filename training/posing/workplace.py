"""Where an unfinished capture lies: beside the finished one, taken up by the same request, gone at the end."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import aprloc_ros
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.choice import CHOICE_FILE
from aprloc_ros.training.datasets.files import visible
from aprloc_ros.training.posing.sources.taking import MASKS
from aprloc_ros.training.resumption import resume


class Workplace:
    """A hidden folder beside the capture `out`, which appears only when it is complete."""

    def __init__(self, out: Path, request: str, say: Callable[[str], None]):
        self.out, self.is_posed = check_new(out), False
        self.folder = self.out.with_name(f'.{self.out.name}.unfinished')
        self.images, self.database = self.folder / 'capture' / 'images', self.folder / 'database.db'
        self.masks = self.folder / 'capture' / MASKS
        resume(self.folder, request, say)

    def finish(self):
        """The capture appears, the rest goes."""
        if self.out.is_dir():
            self.out.rmdir()
        (self.folder / 'capture').rename(self.out)
        shutil.rmtree(self.folder)

    def abandon(self):
        """After an error that the same request would meet again."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_new(out: Path) -> Path:
    """The absolute path of a capture to write. AprlocError where something is there."""
    out = Path(out).expanduser().absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise AprlocError(f'{out} exists already; remove it or choose another name')
    if not os.access(next(parent for parent in out.parents if parent.exists()), os.W_OK):
        raise AprlocError(f'{out}: its folder cannot be written')
    return out


def fingerprint(source: Path, frames: int | None, seed: int) -> str:
    """Equal for requests that may continue one another: of the files of the source, and of what lies beside a single one to choose its
    topics, by size and time of change."""
    source = Path(source).expanduser().absolute()
    beside = [source, source.with_name(CHOICE_FILE)]
    files = [file for file in (visible(source, '**/*') if source.is_dir() else beside) if file.is_file()]
    marks = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return json.dumps([hashlib.sha256(repr(marks).encode()).hexdigest(), frames, seed, aprloc_ros.__version__])
