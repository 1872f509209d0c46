"""Which intrinsics a camera can have."""

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError

_SHORTEST, _LONGEST = 0.1, 100.0   # focal length by the image's side: views of 157 and of 0.6 degrees
_PIXEL_ASPECT = 2.0


def check_intrinsics(camera: Camera, where: str):
    """AprlocError for what no camera has: they are of another image, or in another unit."""
    size = f'{camera.width}x{camera.height}'
    if not (0 <= camera.cx <= camera.width - 1 and 0 <= camera.cy <= camera.height - 1):
        raise AprlocError(f'{where} has its principal point at {camera.cx:.6g}, {camera.cy:.6g}, outside the {size} '
                          f'image; are the intrinsics of a larger image? say its width and height with them (with --camera: by a '
                          f'camera.yaml of ROS), or scale them to this one')
    if max(camera.cx, camera.cy) <= 1 < min(camera.width, camera.height) / 8:
        raise AprlocError(f'{where} has its principal point at {camera.cx:.6g}, {camera.cy:.6g} of {size}; it must be '
                          f'in pixels, not a share of the image')
    for name, focal, side in (('fx', camera.fx, camera.width), ('fy', camera.fy, camera.height)):
        if not _SHORTEST <= focal / side <= _LONGEST:
            raise AprlocError(f'{where} has {name} = {focal:.6g} for {side} pixels; it must be {_SHORTEST * side:.6g} '
                              f'to {_LONGEST * side:.6g} pixels (not millimetres, nor a share of the image)')
    if not 1 / _PIXEL_ASPECT <= camera.fx / camera.fy <= _PIXEL_ASPECT:
        raise AprlocError(f'{where} has fx = {camera.fx:.6g} and fy = {camera.fy:.6g}; their ratio must be '
                          f'{1 / _PIXEL_ASPECT} to {_PIXEL_ASPECT}; are width and height exchanged?')
