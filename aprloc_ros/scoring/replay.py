"""A recording through localizer and tracker without ROS, as a robot's node does it: every frame in turn, or the newest one.

Equal recordings and maps give equal poses, those of a node that answers the same frames. At the recording's pace, which
frames are answered depends on how long each takes on this machine: time is simulated from the measured durations, nothing
sleeps.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.estimate import Estimate
from aprloc_ros.localizer import Localizer
from aprloc_ros.recordings.bag_images import BagImage
from aprloc_ros.recordings.stamp_order import StampOrder
from aprloc_ros.tracking.answer import FrameRejected, Picture, answer_picture, check_picture, rejecting
from aprloc_ros.tracking.tracker import Tracker, TrackingOptions

ANSWERED, SUPERSEDED, REJECTED = 'answered', 'superseded', 'rejected'
# Every answer counts, the first one too: it is the map that is judged, not how long a node waits to be sure.
OPTIONS = TrackingOptions(confirmations=1)


def _itself(stamp_ns: int) -> Tensor:
    return torch.eye(4, dtype=torch.float64)


def _nowhere(stamp_ns: int) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Robot:
    """What carries the camera, at a stamp in ns: by default the camera itself, and nothing tells how it moves."""

    frame: str = 'camera'
    T_base_cam: Callable[[int], Tensor] = _itself              # [4, 4]; may raise AprlocError
    T_odom_base: Callable[[int], Tensor | None] = _nowhere     # [4, 4]
    odometry: str = 'nowhere'                                  # where that comes from, in words
    beginnings: Callable[[int], int] = lambda stamp_ns: 0      # how often odometry began anew until then


@dataclass(frozen=True, eq=False)
class ReplayedFrame:
    """What became of one image."""

    index: int
    name: str
    stamp_ns: int
    outcome: str                        # ANSWERED, SUPERSEDED by a newer frame, or REJECTED
    estimate: Estimate | None = None    # None unless the localizer answered
    reason: str = ''                    # of a rejection, as the node's diagnostics call it
    text: str = ''
    is_readable: bool = True            # False: the message itself was refused, whatever it shows
    arrived_s: float = 0.0              # since the first image, by the recording's clock
    latency_ms: float = 0.0             # from its arrival to its answer
    remark: str = ''                    # what is wrong with the stamps, as far as known by then
    late_s: float = 0.0                 # by which its stamp was taken to be late when it was answered

    @property
    def taken_ns(self) -> int:
        return _before(self.stamp_ns, self.late_s)


def replay(images: Iterable[BagImage], localizer: Localizer, robot: Robot, realtime: bool = False,
           clock: Callable[[], float] = time.perf_counter) -> Iterator[ReplayedFrame]:
    """Localise the images, in the order of recording. realtime: newest frame only, as the node does.

    clock: seconds, to measure how long an answer takes.
    """
    run = _Run(localizer, robot, clock)
    return run.newest(images) if realtime else run.every(images)


class _Run:
    def __init__(self, localizer: Localizer, robot: Robot, clock: Callable[[], float]):
        self._localizer, self._robot, self._clock = localizer, robot, clock
        self._tracker = Tracker(OPTIONS)
        self._order, self._beginnings = StampOrder(), 0
        self._start_ns: int | None = None

    def every(self, images: Iterable[BagImage]) -> Iterator[ReplayedFrame]:
        for image in images:
            arrived_s, refused = self._arrive(image)
            if refused:
                yield refused
                continue
            frame, seconds = self._answer(image)
            yield _finished(frame, arrived_s, seconds)

    def newest(self, images: Iterable[BagImage]) -> Iterator[ReplayedFrame]:
        """One frame is in hand and at most one waits; `free_s` is when the one in hand is done."""
        waiting, free_s = None, 0.0
        for image in images:
            arrived_s, refused = self._arrive(image)
            if waiting and free_s <= arrived_s:
                frame, free_s = self._take(*waiting, free_s)
                yield frame
                waiting = None
            if refused:
                yield refused
                continue
            if waiting:
                yield ReplayedFrame(**_of(waiting[0]), outcome=SUPERSEDED, arrived_s=waiting[1])
            waiting = image, arrived_s
        if waiting:
            yield self._take(*waiting, free_s)[0]

    def _take(self, image: BagImage, arrived_s: float, free_s: float) -> tuple[ReplayedFrame, float]:
        """The answer of the frame that waited, and when it is done."""
        start_s = max(arrived_s, free_s)
        frame, seconds = self._answer(image)
        return _finished(frame, arrived_s, start_s + seconds - arrived_s), start_s + seconds

    def _arrive(self, image: BagImage) -> tuple[float, ReplayedFrame | None]:
        """Seconds since the first image, and the frame itself if its stamp refuses it."""
        self._start_ns = image.recorded_ns if self._start_ns is None else self._start_ns
        arrived_s = (image.recorded_ns - self._start_ns) / 1e9
        refusal = self._order.refusal(image.stamp_ns)
        if refusal is None:
            return arrived_s, None
        return arrived_s, ReplayedFrame(**_of(image), outcome=REJECTED, reason='stamp', text=refusal,
                                        is_readable=False, arrived_s=arrived_s)

    def _answer(self, image: BagImage) -> tuple[ReplayedFrame, float]:
        """The frame and how long it took, in seconds."""
        start_s, late_s = self._clock(), self._tracker.stamp_delay.seconds
        is_readable = False
        try:
            camera, pixels = _read(image)
            is_readable = True
            estimate = self._localize(image, camera, pixels)
        except FrameRejected as no:
            frame = ReplayedFrame(**_of(image), outcome=REJECTED, estimate=no.estimate, reason=no.reason, text=no.text,
                                  is_readable=is_readable)
        else:
            frame = ReplayedFrame(**_of(image), outcome=ANSWERED, estimate=estimate)
        return replace(frame, late_s=late_s, remark=self._tracker.stamp_delay.problem), self._clock() - start_s

    def _localize(self, image: BagImage, camera: Camera | None, pixels: np.ndarray) -> Estimate:
        """Raises FrameRejected."""
        check_picture(pixels, camera, OPTIONS.min_contrast)
        self._mind_new_odometry(image.stamp_ns)
        with rejecting('extrinsics'):
            picture = Picture(pixels, camera, self._robot.T_base_cam(_before(image.stamp_ns, self._tracker.stamp_delay.seconds)))
        return answer_picture(picture, image.stamp_ns / 1e9, lambda delay_s: self._robot.T_odom_base(_before(image.stamp_ns, delay_s)),
                              self._localizer, self._tracker).estimate

    def _mind_new_odometry(self, stamp_ns: int) -> None:
        before, self._beginnings = self._beginnings, self._robot.beginnings(stamp_ns)
        if self._beginnings != before:
            self._tracker.forget_odometry()


def _read(image: BagImage) -> tuple[Camera | None, np.ndarray]:
    """Raises FrameRejected for a message that cannot be read."""
    with rejecting('camera_info'):
        camera = image.camera()
    with rejecting('image'):
        return camera, image.pixels()


def _before(stamp_ns: int, seconds: float) -> int:
    return stamp_ns - round(1e9 * seconds)


def _of(image: BagImage) -> dict:
    return {'index': image.index, 'name': image.name, 'stamp_ns': image.stamp_ns}


def _finished(frame: ReplayedFrame, arrived_s: float, latency_s: float) -> ReplayedFrame:
    return replace(frame, arrived_s=arrived_s, latency_ms=1e3 * latency_s)
