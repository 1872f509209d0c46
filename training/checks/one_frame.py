"""Are several drives of one place, with poses in one frame? Found out by their images, before anything is built on them."""

import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.checks.evidence import FEWEST_PAIRS, gather_between
from aprloc_ros.training.datasets.capture import Capture, Frame

_REFUSED_BELOW = 0.7    # share of matches
_CURE = ('pose the images of both together with aprloc pose, or bring the poses of one into the frame of the other (a map that '
         'one drive built is brought there by aprloc align)')


def check_one_frame(drives: list[tuple[Capture, tuple[Frame, ...]]]) -> list[str]:
    """What pairs of images of each drive and those before it say, a line for each drive but the first.

    Raises AprlocError for a drive whose images match others but not where the poses say, and for one whose images match none.
    """
    said, before = [], drives[0][1]
    for drive, frames in drives[1:]:
        said.append(_checked(drive.name, before, frames))
        before = (*before, *frames)
    return said


def _checked(name: str, before: tuple[Frame, ...], frames: tuple[Frame, ...]) -> str:
    evidence, tried = gather_between(before, frames)
    if len(evidence.pairs) < FEWEST_PAIRS:
        raise AprlocError(f'no overlap was found between {name} and the drives before it: {len(evidence.pairs)} of {tried} pairs '
                          'of their images match. It is of another place, in another frame, or in another light altogether: '
                          f'build a map of its own, or {_CURE}')
    T_map_cam = np.stack([frame.T_map_cam.numpy() for frame in (*before, *frames)])
    residuals_rad = evidence.residuals(T_map_cam)
    share = float((residuals_rad < evidence.agreement_rad).mean())
    measured = (f'{share:.0%} of {len(residuals_rad)} matches in {len(evidence.pairs)} pairs of images across drives agree with the '
                f'poses within {np.rad2deg(evidence.agreement_rad):.1f} deg, median {np.rad2deg(np.median(residuals_rad)):.2f} deg off')
    if share < _REFUSED_BELOW:
        raise AprlocError(f'{name} is not in the frame of the drives before it: only {measured}; {_CURE}. Or it is of a place that looks alike')
    return f'{name}: {measured}'
