"""A driver that tears its images, or resamples them, does so with most: what looks right among such images is suspicious, too."""

from collections import deque

from aprloc_ros.estimate import WARPED, Estimate

_REMEMBERED = 10   # answers
_MOST = 1          # of them may be of warped images by chance, or in a turn


class WarpedStream:
    """Sees every answer, whether or not its image is warped."""

    def __init__(self):
        self._warped: deque[bool] = deque(maxlen=_REMEMBERED)

    def problem(self, estimate: Estimate) -> str:
        """Why one more answer is not to be believed among those before it, in one line, or ''."""
        if estimate.status != 'rejected' or estimate.reason == WARPED:   # others say nothing of it
            self._warped.append(estimate.status == 'rejected')
        count = sum(self._warped)
        return f'{count} of the last {len(self._warped)} images are warped or torn: none is believed until fewer are' if count > _MOST else ''
