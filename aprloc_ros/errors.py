"""The exceptions that a user is meant to see."""


class AprlocError(Exception):
    """A mistake in the input: its message is one line that names the value, the allowed range and what to do."""


class Unwritten(AprlocError):
    """A file cannot be written, because the disk is full say: no mistake, and the same request goes on once it can."""
