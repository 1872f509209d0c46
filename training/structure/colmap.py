"""pycolmap, kept from answering the user's signals in C++."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from PIL import Image  # noqa: F401  Loaded after pycolmap, its libraries crash where a PNG is written


def load_pycolmap():
    """pycolmap, which logs errors alone. Its logger would answer SIGTERM with a stack trace; what was there answers."""
    import pycolmap  # an extra of the training side

    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    if _is_main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
    return pycolmap


@contextlib.contextmanager
def ends_at_once() -> Iterator[None]:
    """Ctrl-C ends the process, as SIGTERM does: for calls of many seconds, within which Python cannot answer it."""
    if not _is_main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
