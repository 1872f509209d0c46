"""What a build is asked for."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import aprloc_ros
from aprloc_ros.config import to_mapping
from aprloc_ros.training.datasets.capture import Capture
from aprloc_ros.training.presets import Preset


def content_hash(capture: Capture) -> str:
    """Of the poses and images of every frame."""
    digest = hashlib.sha256()
    for frame in (*capture.train, *capture.test):
        digest.update(frame.name.encode())
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
        return json.dumps([self.name, self.content_hash, to_mapping(self.preset), self.seed, self.imagenet,
                           aprloc_ros.__version__])
