"""Which frame is answered next: the newest one, on a thread of its own. Knows nothing of ROS."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar('T')


class NewestFrameWorker(Generic[T]):
    """Calls `answer` on its own thread with the newest submitted frame; frames it had no time for are superseded."""

    def __init__(self, answer: Callable[[T], None], on_superseded: Callable[[], None]):
        self._answer = answer
        self._on_superseded = on_superseded
        self._changed = threading.Condition()
        self._waiting: T | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='localizer', daemon=True)
        self._thread.start()

    def submit(self, frame: T) -> None:
        """Take the frame as the newest one. Returns at once, whatever the thread is doing."""
        with self._changed:
            superseded, self._waiting = self._waiting, frame
            self._changed.notify()
        if superseded is not None:
            self._on_superseded()

    def stop(self) -> None:
        """Finish the frame in hand, drop the waiting one, end the thread."""
        with self._changed:
            self._stopping = True
            superseded, self._waiting = self._waiting, None
            self._changed.notify()
        if superseded is not None:
            self._on_superseded()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._waiting is not None)
                if self._stopping:
                    return
                frame, self._waiting = self._waiting, None
            self._answer(frame)


@dataclass
class FrameCounts:
    """What became of the frames: received = answered + superseded + rejected + the one in hand. Thread-safe."""

    received: int = 0
    answered: int = 0
    superseded: int = 0
    rejected: Counter = field(default_factory=Counter)   # reason -> frames
    last_rejection: str = ''
    rejected_last: bool = False                          # whether the latest decision was a rejection
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self) -> None:
        with self._lock:
            self.received += 1

    def supersede(self) -> None:
        with self._lock:
            self.superseded += 1

    def answer(self) -> None:
        with self._lock:
            self.answered += 1
            self.rejected_last = False

    def reject(self, reason: str, text: str) -> bool:
        """True when this is news: the decision before was an answer, or a rejection for another reason."""
        with self._lock:
            is_news = not self.rejected_last or not self.last_rejection.startswith(f'{reason}: ')
            self.rejected[reason] += 1
            self.last_rejection = f'{reason}: {text}'
            self.rejected_last = True
            return is_news

    def values(self) -> dict[str, str]:
        """As the key-value pairs of a diagnostic."""
        with self._lock:
            values = {'frames received': self.received, 'frames answered': self.answered,
                      'frames superseded': self.superseded, 'frames rejected': self.rejected.total(),
                      **{f'rejected: {reason}': count for reason, count in sorted(self.rejected.items())},
                      'last rejection': self.last_rejection}
        return {key: str(value) for key, value in values.items()}
