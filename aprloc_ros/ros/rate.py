"""Whether this machine keeps up with the camera."""

import itertools
import statistics
from collections import deque

_REMEMBERED = 20
_FEWEST = 10        # intervals and answers, for a word about either
_TOO_SLOW = 1.1     # answers that take so many times the interval of images


class CameraRate:
    """Intervals of the images that arrived lately, and how long their answers took."""

    def __init__(self):
        self.problem = ''   # for the user; once there are answers enough, and gone when the machine keeps up again
        self._arrived_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._took_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._said = False

    def arrive(self, now_s: float) -> None:
        """An image came."""
        self._arrived_s.append(now_s)

    def answer(self, took_s: float) -> bool:
        """One was answered or rejected in so many seconds -> whether a problem is there for the first time."""
        self._took_s.append(took_s)
        times_s = list(self._arrived_s)
        if min(len(times_s) - 1, len(self._took_s)) < _FEWEST:
            return False
        interval_s = statistics.median(b - a for a, b in itertools.pairwise(times_s))
        took_s = statistics.median(self._took_s)
        slow = took_s > _TOO_SLOW * interval_s
        self.problem = (f'too slow for the camera: an answer takes {1e3 * took_s:.0f} ms, images come every '
                        f'{1e3 * interval_s:.0f} ms: the newest one is answered, the others are superseded') if slow else ''
        news, self._said = slow and not self._said, self._said or slow
        return news
