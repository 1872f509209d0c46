"""Which message of a stream may follow which, by their stamps."""

# So many older frames in a row mean that the clock was set back (a bag played again), not that frames came late.
CLOCK_SET_BACK_FRAMES = 10


class StampOrder:
    """Accepts each stamp that is later than those before it, and starts anew when the clock was set back."""

    def __init__(self):
        self._last_ns: int | None = None
        self._older_in_a_row = 0

    def refusal(self, stamp_ns: int) -> str | None:
        """None when the frame may be used, otherwise why not."""
        if stamp_ns <= 0:
            return 'the stamp is zero, which TF reads as "the latest": the camera driver must stamp its images'
        if self._last_ns is not None and stamp_ns <= self._last_ns:
            self._older_in_a_row += 1
            if self._older_in_a_row < CLOCK_SET_BACK_FRAMES:
                return (f'the stamp {stamp_ns / 1e9:.6f} s is not after {self._last_ns / 1e9:.6f} s, '
                        f'the newest stamp so far')
        self._older_in_a_row = 0
        self._last_ns = stamp_ns
        return None
