"""Images of more than eight bits a sample: 10 and 12 bit sensors leave the upper bits of 16 empty."""

import numpy as np

_DEPTHS = (8, 10, 12, 14, 16)


def used_bits(largest: int) -> int:
    """Bits that a sensor has whose largest value this is: the fewest of 8, 10, 12, 14 and 16 that hold it."""
    return next(bits for bits in _DEPTHS if largest < 1 << bits)


def to_8_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """uint16 of a sensor of so many bits -> uint8, the sensor's largest value to 255."""
    scaled = samples.astype(np.float32) * (255 / ((1 << bits) - 1))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
