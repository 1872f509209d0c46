"""Days of the demo place: its light, what fell from the sky, and how the camera copes. All numbers of a day are here."""

import math
from dataclasses import dataclass, field

import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.place.sensor import Sensor


@dataclass(frozen=True)
class Light:
    """A colour and its strength, in the units of the camera's linear light."""

    colour: tuple[float, float, float]
    strength: float

    @property
    def rgb(self) -> np.ndarray:
        """[3] float32."""
        return np.array(self.colour, np.float32) * self.strength


DARK = Light((0.0, 0.0, 0.0), 0.0)


@dataclass(frozen=True)
class Day:
    """One day's light and weather."""

    name: str
    number: int                        # makes its random choices its own
    sun: Light                         # on a surface that faces it
    sky: Light                         # on a surface that faces up
    bounce: Light                      # on a surface that faces down
    zenith: Light                      # radiance of a white cloud
    to_sun: tuple | None = None        # unit vector towards the sun
    lamps: Light | None = None         # on a surface that faces a lamp a metre away, where lamps are lit
    cloudiness: float = -0.25          # above 1 no blue is left
    water: float = 0.0                 # share of what rain reaches that is wet
    snow: float = 0.0                  # share of what snow reaches, and faces up, that is white
    is_autumn: bool = False            # leaves have turned and lie on the ground
    sensor: Sensor = field(default_factory=Sensor)   # of the camera that drives on that day


def _towards(bearing_deg: float, elevation_deg: float) -> tuple:
    """Unit vector: bearing from east to north."""
    bearing, elevation = math.radians(bearing_deg), math.radians(elevation_deg)
    return math.cos(bearing) * math.cos(elevation), math.sin(bearing) * math.cos(elevation), math.sin(elevation)


def _camera(bias: float, gamma: float, balance=(1.0, 1.0, 1.0)) -> Sensor:
    """The exposure can grow to 1.5; beyond that the signal is amplified, with its noise, sixteenfold at most."""
    return Sensor(bias, adaptation_s=1.0, start=1.3, gamma=gamma, vignetting=0.18, balance=balance, longest=1.5, loudest=16.0)


TODAY = Day('today', 0, Light((1.0, 0.93, 0.80), 2.1), Light((0.78, 0.88, 1.0), 0.62), Light((1.0, 0.92, 0.78), 0.34),
            Light((1.0, 1.0, 1.0), 1.5),
            tuple((np.array([-0.42, -0.34, 0.84]) / np.linalg.norm([-0.42, -0.34, 0.84])).tolist()),
            sensor=_camera(0.9, 2.2))
DAYS = {day.name: day for day in (
    TODAY,
    Day('overcast', 1, DARK, Light((0.93, 0.97, 1.0), 0.75), Light((1.0, 0.96, 0.9), 0.22), Light((1.0, 1.0, 1.0), 0.9),
        cloudiness=1.6, sensor=_camera(0.85, 2.3, (0.98, 1.0, 1.03))),
    Day('dusk', 2, Light((1.0, 0.52, 0.24), 0.9), Light((0.62, 0.66, 1.0), 0.16), Light((1.0, 0.7, 0.6), 0.06),
        Light((1.0, 0.72, 0.62), 0.45), _towards(168, 15), Light((1.0, 0.62, 0.3), 1.2), cloudiness=-0.1,
        sensor=_camera(0.8, 2.2, (1.0, 1.0, 1.08))),
    Day('night', 3, DARK, Light((0.45, 0.55, 1.0), 0.006), Light((1.0, 0.8, 0.6), 0.003), Light((0.5, 0.6, 1.0), 0.012),
        lamps=Light((1.0, 0.62, 0.3), 1.2), sensor=_camera(0.6, 2.2)),
    Day('wet', 4, DARK, Light((0.85, 0.92, 1.0), 0.5), Light((0.95, 0.95, 1.0), 0.16), Light((1.0, 1.0, 1.0), 0.7),
        cloudiness=0.8, water=1.0, sensor=_camera(0.85, 2.3, (0.97, 1.0, 1.05))),
    Day('snow', 5, Light((1.0, 0.9, 0.76), 1.1), Light((0.72, 0.84, 1.0), 0.7), Light((0.9, 0.95, 1.0), 0.6),
        Light((1.0, 1.0, 1.0), 1.4), _towards(-62, 24), cloudiness=0.2, snow=0.95, sensor=_camera(1.1, 2.2)),
    Day('autumn', 6, Light((1.0, 0.84, 0.6), 1.7), Light((0.78, 0.88, 1.0), 0.5), Light((1.0, 0.86, 0.66), 0.28),
        Light((1.0, 0.98, 0.95), 1.4), _towards(-112, 32), cloudiness=-0.4, is_autumn=True, sensor=_camera(0.9, 2.1)))}


def find_day(name: str) -> Day:
    """The day of a name. AprlocError, which names them all, for another."""
    if name not in DAYS:
        raise AprlocError(f'day {name!r} must be one of {", ".join(DAYS)}')
    return DAYS[name]
