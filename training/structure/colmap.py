"""pycolmap, kept from answering the user's signals in C++."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from PIL import Image  # noqa: F401  Loaded after pycolmap, its libraries crash where a PNG is written

from aprloc_ros.recordings.decoding.encoded_images import is_jpeg_or_png
from aprloc_ros.training.datasets.admission import has_16_bits
from aprloc_ros.training.datasets.capture import Frame

_MAGIC_BYTES = 8


def load_pycolmap():
    """pycolmap, which logs errors alone. Its logger would answer SIGTERM with a stack trace; what was there answers."""
    import pycolmap  # an extra of the training side

    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    if _is_main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
    return pycolmap


def can_read(frame: Frame) -> bool:
    """Whether it takes the file for the pixels that the frame has: it knows no WebP, GIF or JPEG 2000 whatever their suffix, and
    of 16 bits it takes the upper eight, in which a sensor of 12 is nearly dark.
    """
    with frame.image_path.open('rb') as file:
        start = file.read(_MAGIC_BYTES)
    return is_jpeg_or_png(start) and (frame.sample_bits == 16 or not has_16_bits(frame.image_path))


def repeatable(pycolmap, seed: int):
    """Options of the mapper and of what triangulates: sampling by a seed, sums in a fixed order, the same on any number of cores."""
    options = pycolmap.IncrementalPipelineOptions()
    for part in (options, options.mapper, options.triangulation):
        part.random_seed = seed
    options.num_threads = options.mapper.num_threads = 1
    return options


def answering_signals(call: Callable, *arguments, **options):
    """What a call of pycolmap returns that takes a cancellation token; Ctrl-C ends it within its present image or pair.

    It runs in a thread of its own: an interruption that reaches the main thread within the call is lost in C++ for as long
    as it lasts, or, while arguments are converted, becomes a TypeError about their types.
    """
    import pycolmap

    token = pycolmap.CancellationToken()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(call, *arguments, **options, cancellation_token=token)
        try:
            return future.result()
        finally:
            token.cancel()


@contextlib.contextmanager
def ends_at_once() -> Iterator[None]:
    """Ctrl-C ends the process, as SIGTERM does: for calls of seconds that take no cancellation token."""
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
