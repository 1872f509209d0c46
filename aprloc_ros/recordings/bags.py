"""Bags of our own, without ROS: posed frames as a rosbag2, and its messages for the player.

Such a bag holds `image` (sensor_msgs/Image, rgb8), `camera_info` (sensor_msgs/CameraInfo) and `truth`
(geometry_msgs/PoseStamped, T_map_cam of the optical frame). All of one frame carry the same stamp.
"""

import contextlib
import itertools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_messages import BagWriter, camera_info_message, header, image_message, pose_message
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.whole_files import mend, swap_in

_LAST_S = 2 ** 31 - 1   # of builtin_interfaces/Time


@dataclass(frozen=True)
class BagFrame:
    """One image of a bag."""

    stamp_ns: int
    image: np.ndarray    # [H, W, 3] uint8 RGB
    camera: Camera
    T_map_cam: Tensor    # [4, 4] float64


@dataclass(frozen=True)
class RawMessage:
    """A message as it lies in the bag, for publishing without decoding."""

    time_s: float     # when it was recorded, from the bag's first message on
    stamp_ns: int     # of its header
    data: bytes       # CDR


def frame_stamps_ns(stamps_s: list[float | None], rate_hz: float) -> list[int]:
    """Strictly increasing stamps for frames: the capture's own clock where it has one in seconds, else one frame each 1/rate_hz.

    A clock that starts at zero is moved to one second, since ROS reads a stamp of zero as "unknown".
    """
    if not 0 < rate_hz <= 1000:
        raise AprlocError(f'rate {rate_hz} Hz is outside 0 to 1000')
    known = (None not in stamps_s and all(a < b for a, b in itertools.pairwise(stamps_s))
             and all(0 <= stamp_s < _LAST_S for stamp_s in stamps_s))
    times_s = stamps_s if known else [index / rate_hz for index in range(len(stamps_s))]
    shift_s = 1.0 if times_s and times_s[0] <= 0 else 0.0
    return [round((time_s + shift_s) * 1e9) for time_s in times_s]


def capture_frames(frames: Iterable, rate_hz: float) -> Iterator[BagFrame]:
    """The frames of a capture, one after the other, as frames of a bag."""
    frames = list(frames)
    for frame, time_ns in zip(frames, frame_stamps_ns([frame.stamp_s for frame in frames], rate_hz)):
        yield BagFrame(time_ns, frame.read_image(), frame.camera, frame.T_map_cam)


@contextlib.contextmanager
def new_bag(path: Path, replaces: bool = False) -> Iterator[BagWriter]:
    """A rosbag2 directory that appears only when it is complete.

    Raises AprlocError if the path exists, unless it is a rosbag2 that this one replaces.
    """
    path = Path(path)
    if replaces:
        mend(path)
    if path.exists() and not (replaces and (path / 'metadata.yaml').is_file()):
        raise AprlocError(f'{path} exists already; remove it or choose another name')
    unfinished = path.with_name(f'.{path.name}.partial')
    shutil.rmtree(unfinished, ignore_errors=True)   # of one that was killed
    unfinished.mkdir(parents=True)
    try:
        with BagWriter(unfinished / path.name) as writer:
            yield writer
        swap_in(unfinished / path.name, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_bag(path: Path, frames: Iterable[BagFrame], map_frame: str = 'map',
              camera_frame: str = 'camera_optical_frame') -> int:
    """Write frames as a rosbag2 -> number of frames.

    Raises AprlocError if the path exists, the frames are none, or their stamps do not increase.
    """
    with new_bag(path) as writer:
        count = _write_frames(writer, frames, map_frame, camera_frame)
        if count == 0:
            raise AprlocError(f'{path}: there is no frame to write')
    return count


def _write_frames(writer: BagWriter, frames: Iterable[BagFrame], map_frame: str, camera_frame: str) -> int:
    count, last_ns = 0, -1
    for frame in frames:
        if frame.stamp_ns <= last_ns:
            raise AprlocError(f'frame {count}: stamp {frame.stamp_ns} ns does not follow {last_ns} ns; sort the frames')
        of_camera = header(frame.stamp_ns, camera_frame)
        messages = {'camera_info': camera_info_message(frame.camera, of_camera),
                    'image': image_message(frame.image, of_camera),
                    'truth': pose_message(frame.T_map_cam, header(frame.stamp_ns, map_frame))}
        for topic, message in messages.items():
            writer.put(topic, frame.stamp_ns, message)
        count, last_ns = count + 1, frame.stamp_ns
    return count


def read_raw(path: Path, topic: str, *types: str) -> Iterator[RawMessage]:
    """A topic's messages in the order of recording, ready to be published as they are. rosbag2 only."""
    with open_recording(path) as recording:
        if not recording.reader.is2:
            raise AprlocError(f'{path}: a ROS 1 bag cannot be played as it is; convert it with rosbags-convert, or '
                              'use aprloc replay')
        for message in recording.messages(recording.named(topic, types, 'topic')):
            yield RawMessage((message.recorded_ns - recording.start_ns) / 1e9, stamp_ns(message.body.header.stamp),
                             message.data)
