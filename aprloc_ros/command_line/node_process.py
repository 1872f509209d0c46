"""The `relocalize` node as a process of its own, from its start to its end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from aprloc_ros.starter import ending_with_us


@contextlib.contextmanager
def node_process(parameters: dict[str, str | float], log_path: Path) -> Iterator[subprocess.Popen]:
    """The real node as its own process, logging to a file; interrupted, and if need be killed, on the way out."""
    command = [sys.executable, '-m', 'aprloc_ros.relocalize', '--ros-args']
    for name, value in parameters.items():
        command += ['-p', f'{name}:={json.dumps(value)}']   # quoted, so that a map called 12 stays a text
    with open(log_path, 'wb') as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **ending_with_us()})
        try:
            yield process
        finally:
            stop_process(process)


def stop_process(process: subprocess.Popen) -> None:
    """Ask politely, then firmly, and wait for the end; at once if the user presses Ctrl-C again."""
    try:
        for ask, patience_s in ((signal.SIGINT, 10), (signal.SIGTERM, 5)):
            process.send_signal(ask)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
                return
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
