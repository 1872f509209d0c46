"""Which message of a stream may follow which, by their stamps."""

# So many older frames in a row mean that the clock was set back (a bag played again), not that frames came late.
CLOCK_SET_BACK_FRAMES = 10


def stamp_refusal(stamp_ns: int, newest_ns: int) -> str | None:
    """None where a message of that stamp may follow one of newest_ns (0: it is the first), otherwise why not."""
    if stamp_ns <= 0:
        return 'the stamp is zero, which TF reads as "the latest": the driver must stamp its messages'
    if stamp_ns <= newest_ns:
        return f'the stamp {stamp_ns / 1e9:.6f} s is not after {newest_ns / 1e9:.6f} s, the newest stamp so far'
    return None


class StampOrder:
    """Accepts each stamp that is later than those before it, and starts anew when the clock was set back."""

    def __init__(self):
        self._newest_ns = 0
        self._older_in_a_row = 0

    def refusal(self, stamp_ns: int) -> str | None:
        """None when the frame may be used, otherwise why not."""
        refusal = stamp_refusal(stamp_ns, self._newest_ns)
        if refusal and stamp_ns > 0:
            self._older_in_a_row += 1
        if refusal and (stamp_ns <= 0 or self._older_in_a_row < CLOCK_SET_BACK_FRAMES):
            return refusal
        self._older_in_a_row = 0
        self._newest_ns = stamp_ns
        return None
