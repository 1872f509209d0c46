"""Metres from one distance that somebody measured between two places of the camera."""

import math
from collections.abc import Sequence
from pathlib import Path

from aprloc_ros.errors import AprlocError
from aprloc_ros.placement.upright import up_of_cameras
from aprloc_ros.training.posing.metres.measured import Measured, Posed, upright

MEASURED_SD_M = 0.01   # of a tape, and of where in a camera its centre is
_MOST_DOUBT = 0.1      # of the logarithm of the scale
_LEAST_SHARE = 0.05    # of the way's extent: closer cameras say nothing of a scale


def measure_distance(posed: Posed, a: str, b: str, metres: float, position_sd: float = 0.0) -> Measured:
    """The scale by which images a and b were taken that far apart.

    position_sd: of a camera's position along a line, in the map's unit. The deviation of the scale is that of the tape
    (MEASURED_SD_M) and of both positions. Raises AprlocError for names that are not there and for places too close to tell.
    """
    check_distance(a, b, metres)
    centres = posed.T_map_cam[:, :3, 3]
    apart = (centres[find_image(posed.names, a)] - centres[find_image(posed.names, b)]).norm().item()
    extent = (centres - centres.median(0).values).norm(dim=1).median().item()
    if apart < _LEAST_SHARE * extent:
        raise AprlocError(f'{a} and {b} are next to each other ({apart / extent:.1%} of the extent of the way): measure between '
                          'images that are far apart')
    scale_sd = math.hypot(MEASURED_SD_M / metres, math.sqrt(2) * position_sd / apart)
    if scale_sd > _MOST_DOUBT:
        raise AprlocError(f'{metres:g} m between {a} and {b} leave the scale unsure by {scale_sd:.0%} (at most {_MOST_DOUBT:.0%}): '
                          'measure between images that are farther apart')
    source = f'{metres:g} m from {a} to {b}'
    return Measured(upright(metres / apart, up_of_cameras(posed.T_map_cam)[0], scale_sd, source), math.inf,
                    f'{source}, to {1000 * MEASURED_SD_M:g} mm: scale known to {100 * scale_sd:.2f} %')


def check_distance(a: str, b: str, metres: float) -> None:
    """AprlocError for what is no distance."""
    if not (math.isfinite(metres) and metres > 0):
        raise AprlocError(f'the distance between {a} and {b} is {metres} m; it must be more than 0')


def find_image(names: Sequence[str], name: str) -> int:
    """Index of the image of that name; its file's name, with or without its ending, will do where there is only one."""
    for called in (str, lambda n: Path(n).name, lambda n: Path(n).stem):
        found = [index for index, known in enumerate(names) if called(known) == name]
        if len(found) == 1:
            return found[0]
    raise AprlocError(f'no image, or several, of the name {name}; images are called {names[0]} to {names[-1]}, and one '
                      'that could not be posed has no place')
