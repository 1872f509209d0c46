"""Processes of their own that begin with the libraries loaded, which takes seconds: they fork from one that has done it."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

_NURSERY = multiprocessing.get_context('forkserver')
_NURSERY.set_forkserver_preload(['aprloc_ros.ros.node', 'aprloc_ros.training.build_map'])   # what is not installed is left out


class Forked:
    """Python code in a process of its own, with what of subprocess.Popen the tests use."""

    def __init__(self, code: str, arguments, log_path: Path):
        """arguments: words of the command line; log_path: of what it prints. The environment is that of this process."""
        log_path.touch()
        self._process = _NURSERY.Process(target=_run, args=(code, list(map(str, arguments)), log_path, dict(os.environ)))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(f'process {self.pid}', timeout)
        return self.poll()

    def send_signal(self, number: int):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()


def _run(code, arguments, log_path, environment):
    os.environ.clear()
    os.environ.update(environment)
    with open(log_path, 'ab') as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    sys.argv = ['-c', *arguments]
    exec(code, {'__name__': '__main__'})  # noqa: S102  the tests' own
