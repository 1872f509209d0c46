"""One frame's way from a decoded picture to the robot's pose that is believed, or to a reason why there is none."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.covariance import to_base
from aprloc_ros.errors import AprlocError
from aprloc_ros.estimate import WARPED, Estimate
from aprloc_ros.geometry import adjoint, invert, se3_log
from aprloc_ros.localizer import Localizer
from aprloc_ros.tracking.tracker import Tracker


class FrameRejected(Exception):
    """A frame that gets no pose: a word for the counts, a line for the user, and the answer that was not believed."""

    def __init__(self, reason: str, text: str, estimate: Estimate | None = None):
        super().__init__(f'{reason}: {text}')
        self.reason, self.text, self.estimate = reason, text, estimate


@contextlib.contextmanager
def rejecting(reason: str) -> Iterator[None]:
    """Turns an AprlocError of the block into a FrameRejected for that reason."""
    try:
        yield
    except AprlocError as error:
        raise FrameRejected(reason, str(error)) from None


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image and what took it."""

    pixels: np.ndarray      # [H, W, 3] uint8 RGB
    camera: Camera | None   # None: the map's own
    T_base_cam: Tensor      # [4, 4] float64, optical axes, when it was taken: Tracker.stamp_delay before the stamp


@dataclass(frozen=True, eq=False)
class Answer:
    """The robot's pose at one image."""

    T_map_base: Tensor   # [4, 4] float64
    covariance: Tensor   # [6, 6] float64 of xi in T_true = T_map_base @ exp(xi), in the axes of base
    estimate: Estimate   # of the camera


def check_picture(pixels: np.ndarray, camera: Camera | None, min_contrast: float) -> None:
    """pixels [H, W, 3] uint8 RGB. Raises FrameRejected with the reason 'image' where they show nothing, 'camera_info' where
    the camera is of another size."""
    with rejecting('image'):
        _check_contrast(pixels, min_contrast)
    with rejecting('camera_info'):
        _check_sizes(pixels.shape[1], pixels.shape[0], camera)


def answer_picture(picture: Picture, time_s: float, odometry: Callable[[float], Tensor | None], localizer: Localizer,
                   tracker: Tracker) -> Answer:
    """The answer to an image of that stamp, sought from where the tracker expects the robot, and believed by it.

    odometry: its pose [4, 4] so many seconds before the stamp, as far as it is known when it is asked: before the search, for a
    start, and after it, when messages on both sides of that moment have come; last asked for when the image was taken.
    Raises FrameRejected with the reason 'stuck' where the picture is one of before and the robot moved since, 'localizer' when that
    fails, the estimate's where it is not one to believe ('unsure', 'camera_info', 'warped', 'alike', 'out of time', 'out of iterations'),
    'warped' also where images lately were,
    or the tracker's: 'jump', 'unconfirmed', 'overtaken'.
    """
    delay_s = tracker.stamp_delay.seconds
    T_odom_base = odometry(delay_s)
    problem = tracker.stuck_camera.problem(picture.pixels, time_s, T_odom_base, tracker.options)
    if problem:
        raise FrameRejected('stuck', problem)
    attempt = tracker.begin(time_s, T_odom_base, picture.T_base_cam)
    starts = None if attempt.start is None else (attempt.start @ picture.T_base_cam)[None]
    with rejecting('localizer'):
        estimate = localizer.localize(picture.pixels, picture.camera, starts=starts)
    problem = tracker.warped_stream.problem(estimate)
    if estimate.status == 'rejected':
        raise FrameRejected(estimate.reason, estimate.text, estimate)
    if problem:
        raise FrameRejected(WARPED, problem, estimate)
    T_cam_base = invert(picture.T_base_cam)
    T_map_base, covariance = estimate.T_map_cam @ T_cam_base, to_base(estimate.covariance, T_cam_base)
    T_odom_stamp = odometry(0.0) if delay_s else None
    attempt = replace(attempt, T_odom_base=odometry(delay_s))
    verdict = tracker.judge(attempt, T_map_base, covariance)
    if not verdict.accepted:
        raise FrameRejected(verdict.reason, verdict.text, estimate)
    if T_odom_stamp is not None and attempt.T_odom_base is not None:
        estimate = _doubting_the_stamp(estimate, invert(attempt.T_odom_base) @ T_odom_stamp, T_cam_base)
    return Answer(T_map_base, to_base(estimate.covariance, T_cam_base), estimate)


def _doubting_the_stamp(estimate: Estimate, way: Tensor, T_cam_base: Tensor) -> Estimate:
    """As unsure as the base went, way [4, 4], from when its image was taken, by odometry's clock, to its stamp: nobody knows which is right."""
    xi = adjoint(T_cam_base) @ se3_log(way)
    return replace(estimate, covariance=estimate.covariance + torch.outer(xi, xi))


def _check_sizes(width: int, height: int, camera: Camera | None) -> None:
    if camera is not None and (width, height) != (camera.width, camera.height):
        raise AprlocError(f'the image is {width}x{height} but camera_info is of {camera.width}x{camera.height}, its '
                          f'binning and region of interest applied; they must be of the same camera and mode')


def _check_contrast(pixels: np.ndarray, min_contrast: float) -> None:
    """A covered lens or a white wall shows nothing, yet a network has an answer to it."""
    contrast = cv2.meanStdDev(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[1].item()
    if contrast < min_contrast:
        raise AprlocError(f'it shows next to nothing: its brightness varies by {contrast:.1f} grey levels, less than the '
                          f'{min_contrast:g} of the parameter min_contrast; is the lens covered?')
