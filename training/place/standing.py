"""What stands elsewhere from one day to the next: benches, bicycles, bins and parked carts."""

import math

import numpy as np

from aprloc_ros.training.place.days import TODAY, Day
from aprloc_ros.training.place.drive import CLOTHES, cart
from aprloc_ros.training.place.solids import Box, Cylinder, Ellipsoid, axes_from_yaw

# (x, y, yaw, tint) of each bench today; on another day it was pushed along by up to a metre, or taken away.
BENCHES = ((-3.2, 8.05, 0.0, (1.0, 0.95, 0.9)), (4.8, 8.1, 0.0, (0.5, 0.9, 0.7)),
           (12.2, -5.4, -math.pi / 2, (1.0, 0.6, 0.5)), (-13.7, 4.6, math.pi / 2, (0.7, 0.8, 1.2)),
           (2.6, -8.4, math.pi, (1.0, 0.9, 0.7)))
_PUSHED_M, _GONE = 1.0, 0.25
# Where others may stand, clear of every drive: (x, y, yaw).
_WALLSIDE = ((-10.0, -10.4, 0.1), (-6.0, -10.45, 0.0), (6.0, -10.4, -0.1), (10.0, -10.4, 0.15), (14.5, 6.6, 1.5),
             (14.5, -7.2, 1.65), (-14.5, -5.0, 1.6), (-14.5, -8.6, 1.5))
_CORNERS = ((-12.1, -7.1, 0.0), (9.2, 7.4, 0.0), (-5.6, 7.7, 0.0), (5.6, -7.5, 0.0), (12.9, 8.7, 0.0), (-7.4, -7.8, 0.0))
_OPEN = ((-10.4, 6.3, 0.4), (9.9, -6.3, 2.2), (3.1, -2.6, 0.9), (-2.9, 2.8, 2.5), (9.4, 6.4, -0.5))
_BICYCLES, _BINS, _CARTS = 4, 3, 2


def standing(day: Day, seed: int) -> list:
    """The benches as they stand, and what else does; today only the benches."""
    if day == TODAY:
        return [part for place in BENCHES for part in bench(*place)]
    rng = np.random.default_rng([seed, 103, day.number])
    solids = []
    for x, y, yaw, tint in BENCHES:
        along_m, is_gone = rng.uniform(-_PUSHED_M, _PUSHED_M), rng.random() < _GONE
        if not is_gone:
            solids += bench(x + along_m * math.cos(yaw), y + along_m * math.sin(yaw), yaw, tint)
    for places, count, make in ((_WALLSIDE, _BICYCLES, _bicycle), (_CORNERS, _BINS, _bin), (_OPEN, _CARTS, _parked)):
        for i in np.sort(rng.permutation(len(places))[:count]):
            x, y, yaw = places[i]
            solids += make(x, y, yaw + rng.uniform(-0.1, 0.1), CLOTHES[rng.integers(len(CLOTHES))])
    return solids


def bench(x: float, y: float, yaw: float, tint) -> list:
    """A bench on which one sits with the back to the direction yaw + 90 deg."""
    axes = axes_from_yaw(yaw)
    (cx, cy, _), (sx, sy, _), _ = axes
    solids = [Box('wood', (x, y, 0.45), (0.85, 0.24, 0.035), axes, tint),
              Box('wood', (x + 0.22 * sx, y + 0.22 * sy, 0.72), (0.85, 0.03, 0.2), axes, tint)]
    return solids + [Box('iron', (x + d * cx, y + d * cy, 0.21), (0.04, 0.22, 0.21), axes) for d in (-0.7, 0.7)]


def _bicycle(x: float, y: float, yaw: float, colour) -> list:
    """Two wheels, a frame of three tubes, handlebar and saddle."""
    axes = axes_from_yaw(yaw)
    c, s = math.cos(yaw), math.sin(yaw)

    def at(along, z):
        return x + along * c, y + along * s, z

    def tube(along, z, half_m, rise_deg):
        tilt = math.radians(rise_deg)
        ct, st = math.cos(tilt), math.sin(tilt)
        return Box('paint', at(along, z), (half_m, 0.02, 0.02), ((ct * c, ct * s, st), axes[1], (-st * c, -st * s, ct)), colour)

    return [Ellipsoid('iron', at(-0.52, 0.34), (0.34, 0.025, 0.34), axes), Ellipsoid('iron', at(0.52, 0.34), (0.34, 0.025, 0.34), axes),
            tube(0.1, 0.78, 0.3, 5), tube(-0.13, 0.58, 0.3, 65), tube(0.17, 0.55, 0.38, 50), tube(0.47, 0.65, 0.36, 110),
            Box('iron', at(0.36, 1.0), (0.03, 0.27, 0.02), axes), Box('wood', at(-0.27, 0.9), (0.13, 0.07, 0.03), axes)]


def _bin(x: float, y: float, yaw: float, colour) -> list:
    return [Cylinder('paint', (x, y, 0.0), 0.3, 1.0, colour), Cylinder('iron', (x, y, 1.0), 0.33, 0.08)]


def _parked(x: float, y: float, yaw: float, colour) -> list:
    return cart(x, y, yaw, (colour,))
