"""What a camera's lens turned out to be, where its calibration says otherwise."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError

_SAME = 1e-5   # relative: numbers that went through a text file and a resizing


@dataclass(frozen=True)
class Lens:
    """A camera by its calibration, and as the images of a drive say it is."""

    declared: Camera
    found: Camera     # of the declared camera's size

    def __post_init__(self):
        sizes = [(camera.width, camera.height) for camera in (self.declared, self.found)]
        if sizes[0] != sizes[1]:
            raise AprlocError(f'found is {sizes[1][0]}x{sizes[1][1]}; it must be of the size of declared, '
                              f'{sizes[0][0]}x{sizes[0][1]}')


def found_camera(camera: Camera, lenses: Iterable[Lens]) -> Camera:
    """What is known of a camera: the found one at its size where it is a declared one, at any size; else itself."""
    for lens in lenses:
        if _is_same(camera, lens.declared.resized(camera.width, camera.height)):
            return lens.found.resized(camera.width, camera.height)
    return camera


def _is_same(a: Camera, b: Camera) -> bool:
    lens_a, lens_b = (np.trim_zeros(np.array(camera.distortion), 'b') for camera in (a, b))
    return ((a.model == 'fisheye') == (b.model == 'fisheye') and len(lens_a) == len(lens_b)
            and np.allclose(lens_a, lens_b, rtol=_SAME, atol=1e-9)
            and np.allclose((a.fx, a.fy, a.cx, a.cy), (b.fx, b.fy, b.cx, b.cy), rtol=_SAME, atol=_SAME * a.width))
