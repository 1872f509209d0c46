"""The frames that built a map, found in its capture again."""

from pathlib import Path

from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import Manifest
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.request import content_hash

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
