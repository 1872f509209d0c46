"""How long a build has taken, over all its sessions."""

import time
from pathlib import Path

import torch

from aprloc_ros.training.stages.loop import write_atomically


class Clock:
    """Seconds of work in a directory; a session that was killed counts up to the last file that it wrote there."""

    def __init__(self, directory: Path):
        self.file = directory / 'clock.pt'
        self._before_s = 0.0
        if self.file.exists():
            saved = torch.load(self.file, weights_only=True)
            last = max(path.stat().st_mtime for path in directory.iterdir())
            self._before_s = saved['before_s'] + max(0.0, last - saved['began'])
        self._began = time.monotonic()
        write_atomically(self.file, {'before_s': self._before_s, 'began': time.time()})

    @property
    def seconds(self) -> float:
        return self._before_s + time.monotonic() - self._began

    def pause(self):
        """The session ends here, though nothing was written."""
        if self.file.exists():
            self.file.touch()
