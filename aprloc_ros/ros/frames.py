"""What the node does with one frame: message in, the robot's pose out, or a reason why there is none."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.covariance import to_base
from aprloc_ros.device import resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.localizer import Estimate, Localizer
from aprloc_ros.recordings.message_fields import camera_from_info
from aprloc_ros.ros.images import decode_image
from aprloc_ros.ros.odometry import OdometrySource
from aprloc_ros.ros.parameters import NodeParameters
from aprloc_ros.ros.transforms import Extrinsics


class FrameRejected(Exception):
    """A frame that gets no pose: a word for the counts and a line for the user."""

    def __init__(self, reason: str, text: str):
        super().__init__(f'{reason}: {text}')
        self.reason, self.text = reason, text


@contextlib.contextmanager
def rejecting(reason: str) -> Iterator[None]:
    """Turns an AprlocError of the block into a FrameRejected for that reason."""
    try:
        yield
    except AprlocError as error:
        raise FrameRejected(reason, str(error)) from None


class Display(Protocol):
    """Shows what was published to people."""

    def show(self, pixels: np.ndarray, answer: 'Answer', header: Header, camera: Camera | None) -> None:
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
    send_transform: Callable[[TransformStamped], None] | None
    display: Display | None = None

    @property
    def on_cpu_instead(self) -> str:
        """Says so when the localizer had to leave the device that was asked for; empty otherwise."""
        wanted = str(resolve_device(self.parameters.device))
        if self.localizer.device_name == wanted:
            return ''
        return f'{wanted} ran out of memory: localising on the {self.localizer.device_name}'


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image and what took it."""

    pixels: np.ndarray      # [H, W, 3] uint8 RGB
    camera: Camera | None   # None: the map's own
    T_base_cam: Tensor      # [4, 4] float64, optical axes
    decode_ms: float


@dataclass(frozen=True, eq=False)
class Answer:
    """The robot's pose at one image."""

    T_map_base: Tensor   # [4, 4] float64
    covariance: Tensor   # [6, 6] float64 of xi in T_true = T_map_base @ exp(xi), in the axes of base
    estimate: Estimate   # of the camera
    timings_ms: dict[str, float] = field(default_factory=dict)   # 'decode' and the estimate's own


def read_picture(image: Image | CompressedImage, info: CameraInfo | None, setup: Setup) -> Picture:
    """Raises FrameRejected with the reason 'camera_info', 'image' or 'extrinsics'."""
    start_s = time.perf_counter()
    with rejecting('camera_info'):
        camera = _camera(info, setup.parameters)
    with rejecting('image'):
        pixels = decode_image(image, setup.parameters.max_image_bytes)
        _check_contrast(pixels, setup.parameters.min_contrast)
    with rejecting('camera_info'):
        _check_sizes(pixels.shape[1], pixels.shape[0], camera)
    with rejecting('extrinsics'):
        T_base_cam = setup.extrinsics(image.header.frame_id, image.header.stamp)
    return Picture(pixels, camera, T_base_cam, 1e3 * (time.perf_counter() - start_s))


def answer_picture(picture: Picture, T_map_base: Tensor | None, localizer: Localizer) -> Answer:
    """T_map_base: [4, 4] where the robot should be, to refine from; None: anywhere.

    Raises FrameRejected with the reason 'localizer' when it fails, 'unsure' when it does not believe its own answer.
    """
    starts = None if T_map_base is None else (T_map_base @ picture.T_base_cam)[None]
    with rejecting('localizer'):
        estimate = localizer.localize(picture.pixels, picture.camera, starts=starts)
    if estimate.status == 'rejected':
        raise FrameRejected('unsure', f'the map does not believe its own answer, of score {estimate.score:.3f}')
    T_cam_base = invert(picture.T_base_cam)
    return Answer(estimate.T_map_cam @ T_cam_base, to_base(estimate.covariance, T_cam_base), estimate,
                  {'decode': picture.decode_ms, **estimate.timings_ms})


def _camera(info: CameraInfo | None, parameters: NodeParameters) -> Camera | None:
    if info is not None:
        return camera_from_info(info, parameters.rectified)
    if parameters.require_camera_info:
        raise AprlocError('none has arrived on the topic camera_info; publish it, or set the parameter '
                          'require_camera_info to false to use the camera of the map')
    return None


def _check_sizes(width: int, height: int, camera: Camera | None) -> None:
    if camera is not None and (width, height) != (camera.width, camera.height):
        raise AprlocError(f'the image is {width}x{height} but camera_info is of {camera.width}x{camera.height}; they '
                          f'must be of the same camera and mode')


def _check_contrast(pixels: np.ndarray, min_contrast: float) -> None:
    """A covered lens or a white wall shows nothing, yet a network has an answer to it."""
    contrast = cv2.meanStdDev(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[1].item()
    if contrast < min_contrast:
        raise AprlocError(f'it shows next to nothing: its brightness varies by {contrast:.1f} grey levels, less than the '
                          f'{min_contrast:g} of the parameter min_contrast; is the lens covered?')
