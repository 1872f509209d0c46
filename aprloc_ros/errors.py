"""The one exception that a user is meant to see."""


class AprlocError(Exception):
    """A mistake in the input: its message is one line that names the value, the allowed range and what to do."""
