"""What a build is asked for."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

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
        return json.dumps([self.name, self.content_hash, _taken_as(self.capture), to_mapping(self.preset), self.seed,
                           self.imagenet, aprloc_ros.__version__])


def _taken_as(capture: Capture) -> str:
    """Hash of the cameras, masks and bits that the frames were read with."""
    digest = hashlib.sha256()
    for frame in (*capture.train, *capture.test):
        mask = frame.mask and (frame.mask.hides, hashlib.sha256(frame.mask.path.read_bytes()).hexdigest())
        digest.update(repr((frame.camera, mask, frame.sample_bits)).encode())
    return digest.hexdigest()
