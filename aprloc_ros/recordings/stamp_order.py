"""Which message of a stream may follow which, by their stamps."""

# So many older frames in a row mean that the clock was set back (a bag played again), not that frames came late.
CLOCK_SET_BACK_FRAMES = 10


class StampOrder:
    """Accepts each stamp that is later than those before it, and starts anew when the clock was set back."""

    def __init__(self):
        self._newest_ns: int | None = None
        self._older_in_a_row = 0

    def refusal(self, stamp_ns: int) -> str | None:
        """None when the message may be used, otherwise why not."""
        if stamp_ns <= 0:
            return 'the stamp is zero, which TF reads as "the latest": the driver must stamp its messages'
        if self._newest_ns is not None and stamp_ns <= self._newest_ns:
            self._older_in_a_row += 1
            if self._older_in_a_row < CLOCK_SET_BACK_FRAMES:
                return (f'the stamp {stamp_ns / 1e9:.6f} s is not after {self._newest_ns / 1e9:.6f} s, '
                        f'the newest stamp so far')
        self._older_in_a_row = 0
        self._newest_ns = stamp_ns
        return None


class RecordedOrder(StampOrder):
    """As StampOrder, for what is looked up by its stamp later: none may come twice, whatever the clock did."""

    def __init__(self):
        super().__init__()
        self._taken: set[int] = set()

    def refusal(self, stamp_ns: int) -> str | None:
        refusal = super().refusal(stamp_ns)
        if refusal is None and stamp_ns in self._taken:
            return f'the stamp {stamp_ns / 1e9:.6f} s came before'
        if refusal is None:
            self._taken.add(stamp_ns)
        return refusal
