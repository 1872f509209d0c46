"""Some of many, from the first to the last."""

import torch


def evenly(count: int, most: int) -> list[int]:
    """Indices of a sequence, evenly spaced, in order: all of them, where they are no more than `most`."""
    return torch.linspace(0, count - 1, min(most, count)).round().long().tolist()
