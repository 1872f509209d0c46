"""What a node has to answer its frames with, and how one of its messages becomes a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from aprloc_ros.camera import Camera
from aprloc_ros.device import resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.recordings.camera_info import camera_from_info
from aprloc_ros.recordings.decoding.image_messages import decode_image
from aprloc_ros.ros.geopose import SendGeoPose
from aprloc_ros.ros.messages import time_before
from aprloc_ros.ros.odometry import OdometrySource
from aprloc_ros.ros.parameters import NodeParameters
from aprloc_ros.ros.transforms import Extrinsics, TfLookup
from aprloc_ros.tracking.answer import Answer, Picture, check_picture, rejecting


class Display(Protocol):
    """Shows what was published to people."""

    def show(self, pixels: np.ndarray, answer: Answer, header: Header, camera: Camera | None) -> None:
        """pixels [H, W, 3] uint8 RGB, taken by camera (None: the map's own). Called on the worker's thread: be brief."""
        ...


@dataclass(frozen=True, eq=False)
class Setup:
    """What a configured node answers its frames with."""

    parameters: NodeParameters
    localizer: Localizer
    map_frame: str
    extrinsics: Extrinsics
    odometry: OdometrySource | None
    transforms: TfLookup | None
    send_transform: Callable[[TransformStamped], None] | None
    send_geopose: SendGeoPose | None = None
    display: Display | None = None

    def __post_init__(self):
        """Raises AprlocError where the robot's frame would be the map's."""
        if self.map_frame == self.parameters.base_frame:
            raise AprlocError(f'map_frame and base_frame are both {self.map_frame!r}: the robot would stand still in its own frame; '
                              'set one of them')

    @property
    def on_cpu_instead(self) -> str:
        """Says so when the localizer had to leave the device that was asked for; empty otherwise."""
        wanted = str(resolve_device(self.parameters.device))
        if self.localizer.device_name == wanted:
            return ''
        return f'{wanted} ran out of memory: localising on the {self.localizer.device_name}'


def read_picture(image: Image | CompressedImage, info: CameraInfo | None, setup: Setup, late_s: float = 0.0) -> Picture:
    """late_s: by which images are stamped late, as far as known. Raises FrameRejected with the reason 'camera_info', 'image' or 'extrinsics'."""
    with rejecting('camera_info'):
        camera = None if info is None else camera_from_info(info, setup.parameters.rectified)
    with rejecting('image'):
        pixels = decode_image(image, setup.parameters.max_image_bytes)
    check_picture(pixels, camera, setup.parameters.min_contrast)
    with rejecting('extrinsics'):
        T_base_cam = setup.extrinsics(image.header.frame_id.strip('/'), time_before(image.header.stamp, late_s))   # frames as old drivers name them
    return Picture(pixels, camera, T_base_cam)
