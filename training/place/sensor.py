"""A camera's electronics: slow auto-exposure, white balance, vignetting, noise and gamma."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

_TARGET = 0.21              # mean signal that an unbiased auto-exposure aims at
_READ_VARIANCE, _SHOT_VARIANCE = 3e-6, 3e-4
_SHOULDER = 1.15            # above 1 the highlights roll off instead of clipping


@dataclass(frozen=True)
class Sensor:
    """How one drive's camera was set."""

    bias: float = 1.0                               # factor on the exposure that the metering asks for
    adaptation_s: float = 2.0                       # time constant of the auto-exposure
    start: float = 1.0                              # first exposure, relative to what the metering asks for
    gamma: float = 2.2
    vignetting: float = 0.15                        # loss of light in the corners
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)   # of red, green and blue
    longest: float = math.inf                       # exposure beyond which the signal is amplified, and its noise
    loudest: float = math.inf                       # amplification at most; a darker view stays dark


def develop(radiance: Iterable[np.ndarray], sensor: Sensor, period_s: float,
            rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Photographs of consecutive views: [H, W, 3] linear light each -> [H, W, 3] uint8 each.

    The exposure follows exp(-t / adaptation_s) towards what the current view asks for, as auto-exposure does: a
    view is bright or dark also because of the views before it. In the dark the exposure ends at the sensor's longest;
    amplification takes over, which shot noise follows by its root and read noise in full.
    """
    gain = None
    for view in radiance:
        wanted = sensor.bias * _TARGET / max(float(view.mean()), 1e-6)
        gain = wanted * sensor.start if gain is None else gain + (wanted - gain) * (
            1 - np.exp(-period_s / sensor.adaptation_s))
        gain = min(gain, sensor.longest * sensor.loudest)
        amplified = max(1.0, gain / sensor.longest)
        light = view * (gain * np.array(sensor.balance)).astype(np.float32) * _falloff(*view.shape[:2], sensor)
        signal = 1 - np.maximum(1 - light / _SHOULDER / 2, 0) ** 2
        deviation = np.sqrt(_READ_VARIANCE * amplified ** 2 + _SHOT_VARIANCE * amplified * signal)
        signal += deviation * rng.standard_normal(view.shape, np.float32)
        yield np.round(255 * np.clip(signal, 0, 1) ** (1 / sensor.gamma)).astype(np.uint8)


def _falloff(height: int, width: int, sensor: Sensor) -> np.ndarray:
    """[H, W, 1]: 1 in the centre, 1 - vignetting in the corners."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    return (1 - sensor.vignetting * (x ** 2 + y[:, None] ** 2) / 2)[..., None]
