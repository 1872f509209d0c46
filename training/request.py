"""What a build is asked for."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import aprloc_ros
from aprloc_ros.config import to_mapping
from aprloc_ros.training.datasets.capture import Capture
from aprloc_ros.training.datasets.drives import own_name
from aprloc_ros.training.presets import Preset


def content_hash(capture: Capture) -> str:
    """Of the poses and images of every frame."""
    digest = hashlib.sha256()
    for frame in (*capture.train, *capture.test):
        digest.update(own_name(frame).encode())
        digest.update(frame.T_map_cam.numpy().tobytes())
        digest.update(hashlib.sha256(frame.image_path.read_bytes()).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Request:
    """What to build from what."""

    name: str
    capture: Capture
    preset_name: str
    preset: Preset
    seed: int
    imagenet: str        # 'none', 'imagenet' or a checkpoint file for the regressor's backbone

    @cached_property
    def content_hash(self) -> str:
        return content_hash(self.capture)

    def fingerprint(self) -> str:
        """Equal for builds that may continue one another."""
        return json.dumps([self.name, self.content_hash, taken_as(self.capture), to_mapping(self.preset), self.seed,
                           self.imagenet, aprloc_ros.__version__])


def taken_as(capture: Capture) -> str:
    """Hash of what a capture says besides poses and images: cameras, masks, bits, depths and points."""
    digest = hashlib.sha256()
    for frame in (*capture.train, *capture.test):
        mask = frame.mask and (frame.mask.hides, _of_file(frame.mask.path))
        depth = frame.depth_path and (frame.depth_unit_m, _of_file(frame.depth_path))
        digest.update(repr((frame.camera, mask, frame.sample_bits, depth)).encode())
    for part in (capture.points.xyz, capture.points.observations) if capture.points else ():
        digest.update(part.numpy().tobytes())
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
