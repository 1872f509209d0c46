"""Messages that cannot be used: a few are left out, as a node leaves them out; many mean that something is wrong."""

from collections import Counter

from aprloc_ros.errors import AprlocError

MOST_SKIPPED = 0.05   # of the messages, and in any case one


class Skipped:
    """What is left out of so many messages, and why. what: the messages, in words that name their bag and topic."""

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._reasons: Counter = Counter()
        self._first = ''

    def add(self, reason: str, text: str) -> None:
        """reason: a word for the counts; text: what is wrong, and with which message."""
        self._reasons[reason] += 1
        self._first = self._first or text

    def summary(self) -> str:
        """One line of how many and why; empty where nothing was left out. Raises AprlocError where it is too much."""
        count = self._reasons.total()
        if not count:
            return ''
        reasons = ', '.join(f'{number} for {reason}' for reason, number in self._reasons.most_common())
        said = f'{count} of {self._total} {self._what} cannot be used ({reasons}), the first: {self._first}'
        if 2 * count >= self._total or count > max(1, MOST_SKIPPED * self._total):
            raise AprlocError(f'{said}; at most {MOST_SKIPPED:.0%} may be left out')
        return f'left out: {said}'
