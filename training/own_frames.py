"""The frames that built a map, found in its capture again."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import distances
from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.request import content_hash

_MOST_KNOWN = 0.1   # share of the poses that may be those of the map's views, of which there may be few: a robot comes by, but never so
_SAME = 1e-5        # metres, or of a rotation matrix
_SINGLE = 2e-7      # relative: maps kept their views' poses in single precision once

Frames = tuple[Frame, ...]


def own_frames(manifest: Manifest, data: Path) -> tuple[Frames, Frames, Frames]:
    """Those that trained, those that calibrated and those that were held out for the score, with the lenses that the map knows.

    Raises AprlocError for a capture that did not build the map.
    """
    capture = read_capture(data)
    if content_hash(capture) not in manifest.data.hashes:
        raise AprlocError(f'{data}: the map {manifest.name} was not built from this capture but from {manifest.data.name}')
    fit, calibration = calibration_split(capture.train, capture.name)
    return tuple(with_lenses(frames, manifest.lenses) for frames in (fit, calibration, capture.test))


def is_own(bundle: MapBundle, drive: Capture) -> bool:
    """Whether the drive, as it is, taught the map. AprlocError as of `check_own` and `check_new`."""
    own = content_hash(drive) in bundle.manifest.data.hashes
    (check_own if own else check_new)(bundle, drive)
    return own


def check_new(bundle: MapBundle, drive: Capture) -> None:
    """AprlocError for a drive that taught the map in another folder, format or by other names: what has trained judges nothing."""
    known = _of_views(bundle, drive)
    if known > _MOST_KNOWN * len(drive.train):
        raise AprlocError(f'{drive.name} has taught the map {bundle.manifest.name} already, though not as it is now: {known} of its '
                          f'{len(drive.train)} poses are those of the map\'s views; give it as it was then, or a drive that is new to the map')


def check_own(bundle: MapBundle, drive: Capture) -> None:
    """AprlocError for a drive that taught the map before this came into another frame (aprloc align)."""
    if bundle.points is not None and not _of_views(bundle, drive):
        raise AprlocError(f'{drive.name} taught the map {bundle.manifest.name}, which is in another frame since then: none of its poses '
                          'is that of one of the map\'s views; leave it out, or bring its poses into the frame of the map')


def _of_views(bundle: MapBundle, drive: Capture) -> int:
    """How many frames that may have trained are where a view of the map is, to the digits that both keep."""
    if bundle.points is None:
        return 0
    T, views = torch.stack([frame.T_map_cam for frame in drive.train]), bundle.points.view_poses

    def apart(part: Callable[[Tensor], Tensor]) -> Tensor:
        return distances(part(T), part(views))
    reach_m = _SAME + _SINGLE * T[:, :3, 3].norm(dim=1)
    same = (apart(lambda T: T[:, :3, 3]) < reach_m[:, None]) & (apart(lambda T: T[:, :3, :3].flatten(1)) < _SAME)
    return int(same.any(1).sum())
