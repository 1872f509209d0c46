"""Long work that goes on where it was interrupted, as long as the same is asked for."""

import shutil
from collections.abc import Callable
from pathlib import Path

_STAMP = 'request.json'


def resume(folder: Path, request: str, say: Callable[[str], None]) -> None:
    """The folder with what an interrupted run of the same request left there, or emptied for this one."""
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text() == request:
        say(f'continuing the interrupted run in {folder}')
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stamp.write_text(request)
