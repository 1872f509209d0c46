"""Processes that match images beside this one, on one thread each; they end when it does, however it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.structure.colmap import load_pycolmap
from aprloc_ros.training.structure.part import match_part


@contextlib.contextmanager
def crew(count: int) -> Iterator[Callable[[Iterable[Path]], Iterator[Path]]]:
    """A function that yields the folders of parts in their order, each matched by one of `count` processes."""
    free, processes = SimpleQueue(), [_start() for _ in range(count)]
    for process in processes:
        free.put(process)
    with ThreadPoolExecutor(count) as threads:
        try:
            yield lambda folders: _in_order(threads, count, free, folders)
        finally:
            for process in processes:   # first, or the threads would wait for them
                process.kill()
    for process in processes:
        process.communicate()


def _in_order(threads: ThreadPoolExecutor, count: int, free: SimpleQueue, folders: Iterable[Path]) -> Iterator[Path]:
    begun = deque()
    for folder in folders:
        begun.append(threads.submit(_have_matched, free, folder))
        if len(begun) > count:   # so that few parts lie about
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _have_matched(free: SimpleQueue, folder: Path) -> Path:
    process, line = free.get(), json.dumps(str(folder)) + '\n'   # of ASCII, whatever is in the path
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line)
            process.stdin.flush()
        if process.stdout.readline() != line:
            raise AprlocError(f'a process that matches images ended by itself (code {process.wait()}); was it short of memory, or of '
                              'space on the disk?')
    finally:
        free.put(process)
    return folder


def _start() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, '-m', __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1'})


def _serve():
    """Match the parts whose folders the standard input names, and name those that are done, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    pycolmap = load_pycolmap()
    with ThreadPoolExecutor(1) as thread:   # this one notes at once when who asks is gone
        for line in sys.stdin:
            thread.submit(match_part, pycolmap, Path(json.loads(line))).add_done_callback(partial(_answer, line))
        os._exit(0)


def _answer(line: str, matching: Future):
    if error := matching.exception():
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    print(line, end='', flush=True)


if __name__ == '__main__':
    _serve()
