"""The process that started this one, where this one shall not outlive it: a launch or a player that was killed."""

import os

_VARIABLE = 'APRLOC_ENDS_WITH'


def ending_with_us() -> dict[str, str]:
    """Environment of a process that ends when this one is gone, however it went."""
    return {_VARIABLE: str(os.getpid())}


def starter_lives() -> bool:
    """True also where nobody said to end with them."""
    try:
        os.kill(int(os.environ.get(_VARIABLE, os.getpid())), 0)
    except ProcessLookupError:
        return False
    except PermissionError:   # of another user, so it lives
        pass
    return True
