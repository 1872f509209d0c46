"""Bags without ROS: writes posed frames as a rosbag2 (mcap) and reads images and poses back.

A bag of ours holds `image` (sensor_msgs/Image, rgb8), `camera_info` (sensor_msgs/CameraInfo) and `truth`
(geometry_msgs/PoseStamped, T_map_cam of the optical frame). All of one frame carry the same stamp.
"""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, quaternion_to_rotation, rotation_to_quaternion

IMAGE, CAMERA_INFO, POSE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo', 'geometry_msgs/msg/PoseStamped'
POSE_WITH_COVARIANCE = 'geometry_msgs/msg/PoseWithCovarianceStamped'
_STORE = get_typestore(Stores.ROS2_KILTED)
_FOREVER = QosTime(2147483647, 4294967295)
_RELIABLE = Qos(QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, _FOREVER, _FOREVER,
                QosLiveliness.AUTOMATIC, _FOREVER, False)


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
    """Strictly increasing stamps for frames: the capture's own clock where it has one, else one frame each 1/rate_hz.

    A clock that starts at zero is moved to one second, since ROS reads a stamp of zero as "unknown".
    """
    if not 0 < rate_hz <= 1000:
        raise AprlocError(f'rate {rate_hz} Hz is outside 0 to 1000')
    known = None not in stamps_s and all(a < b for a, b in itertools.pairwise(stamps_s))
    times_s = stamps_s if known else [index / rate_hz for index in range(len(stamps_s))]
    shift_s = 1.0 if times_s and times_s[0] <= 0 else 0.0
    return [round((time_s + shift_s) * 1e9) for time_s in times_s]


def capture_frames(frames: Iterable, rate_hz: float) -> Iterator[BagFrame]:
    """The frames of a capture, one after the other, as frames of a bag."""
    frames = list(frames)
    for frame, stamp_ns in zip(frames, frame_stamps_ns([frame.stamp_s for frame in frames], rate_hz)):
        yield BagFrame(stamp_ns, frame.read_image(), frame.camera, frame.T_map_cam)


def write_bag(path: Path, frames: Iterable[BagFrame], map_frame: str = 'map',
              camera_frame: str = 'camera_optical_frame') -> int:
    """Write frames as a rosbag2 directory that appears only when complete -> number of frames.

    Raises AprlocError if the path exists, the frames are none, or their stamps do not increase.
    """
    path = Path(path)
    if path.exists():
        raise AprlocError(f'{path} exists already; remove it or choose another name')
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.bag', dir=path.parent) as unfinished:
        part = Path(unfinished) / path.name
        with Writer(part, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            count = _write_frames(writer, frames, map_frame, camera_frame)
        if count == 0:
            raise AprlocError(f'{path}: there is no frame to write')
        part.rename(path)
    return count


def _write_frames(writer: Writer, frames: Iterable[BagFrame], map_frame: str, camera_frame: str) -> int:
    topics = {'image': IMAGE, 'camera_info': CAMERA_INFO, 'truth': POSE}
    connections = {topic: writer.add_connection(topic, msgtype, typestore=_STORE, offered_qos_profiles=[_RELIABLE])
                   for topic, msgtype in topics.items()}
    count, last_ns = 0, -1
    for frame in frames:
        if frame.stamp_ns <= last_ns:
            raise AprlocError(f'frame {count}: stamp {frame.stamp_ns} ns does not follow {last_ns} ns; sort the frames')
        messages = {'camera_info': camera_info_message(frame.camera, _header(frame.stamp_ns, camera_frame)),
                    'image': image_message(frame.image, _header(frame.stamp_ns, camera_frame)),
                    'truth': pose_message(frame.T_map_cam, _header(frame.stamp_ns, map_frame))}
        for topic, message in messages.items():
            writer.write(connections[topic], frame.stamp_ns, _STORE.serialize_cdr(message, topics[topic]))
        count, last_ns = count + 1, frame.stamp_ns
    return count


def _header(stamp_ns: int, frame_id: str):
    time = _STORE.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10 ** 9))
    return _STORE.types['std_msgs/msg/Header'](time, frame_id)


def image_message(image: np.ndarray, header):
    """[H, W, 3] uint8 RGB -> sensor_msgs/Image of encoding rgb8."""
    height, width = image.shape[:2]
    return _STORE.types[IMAGE](header, height, width, 'rgb8', 0, 3 * width, np.ascontiguousarray(image).reshape(-1))


def camera_info_message(camera: Camera, header):
    """A camera as sensor_msgs/CameraInfo, its rectified projection equal to its intrinsic matrix."""
    distortion = np.zeros(5)
    if camera.distortion:
        distortion = np.array(camera.distortion if len(camera.distortion) != 4 or camera.model == 'fisheye'
                              else (*camera.distortion, 0.0))
    names = {'fisheye': 'equidistant'}
    name = names.get(camera.model, 'rational_polynomial' if len(distortion) == 8 else 'plumb_bob')
    projection = np.hstack([camera.matrix, np.zeros((3, 1))])
    region = _STORE.types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    return _STORE.types[CAMERA_INFO](header, camera.height, camera.width, name, distortion, camera.matrix.reshape(-1),
                                     np.eye(3).reshape(-1), projection.reshape(-1), 0, 0, region)


def pose_message(T_map_cam: Tensor, header):
    """[4, 4] -> geometry_msgs/PoseStamped."""
    w, x, y, z = rotation_to_quaternion(T_map_cam[:3, :3]).tolist()
    point = _STORE.types['geometry_msgs/msg/Point'](*T_map_cam[:3, 3].tolist())
    quaternion = _STORE.types['geometry_msgs/msg/Quaternion'](x, y, z, w)
    return _STORE.types[POSE](header, _STORE.types['geometry_msgs/msg/Pose'](point, quaternion))


def _stamp_ns(header) -> int:
    return header.stamp.sec * 10 ** 9 + header.stamp.nanosec


def _read(path: Path, topic: str, msgtypes: tuple[str, ...]) -> Iterator[tuple[int, object, str, bytes]]:
    """(recorded ns, decoded message, type, CDR) of a topic, named with or without its leading slash."""
    if not Path(path).exists():
        raise AprlocError(f'{path}: there is no such bag')
    try:
        with AnyReader([Path(path)]) as reader:
            matching = [c for c in reader.connections if c.topic.strip('/') == topic.strip('/')]
            if not matching or matching[0].msgtype not in msgtypes:
                found = ', '.join(f'{c.topic} ({c.msgtype})' for c in reader.connections) or 'nothing'
                raise AprlocError(f'{path}: no topic {topic!r} of type {" or ".join(msgtypes)}; it holds {found}')
            for connection, time_ns, data in reader.messages(matching):
                yield time_ns, reader.deserialize(data, connection.msgtype), connection.msgtype, data
    except (AnyReaderError, ReaderError, OSError) as error:
        raise AprlocError(f'{path}: not a readable bag: {str(error).splitlines()[0]}') from error


def read_poses(path: Path, topic: str = 'truth') -> dict[int, Tensor]:
    """Stamp in nanoseconds -> [4, 4] float64, of a PoseStamped or PoseWithCovarianceStamped topic of a bag."""
    poses = {}
    for _, message, msgtype, _ in _read(path, topic, (POSE, POSE_WITH_COVARIANCE)):
        p = message.pose.pose if msgtype == POSE_WITH_COVARIANCE else message.pose
        q = torch.tensor([p.orientation.w, p.orientation.x, p.orientation.y, p.orientation.z], dtype=torch.float64)
        position = torch.tensor([p.position.x, p.position.y, p.position.z], dtype=torch.float64)
        poses[_stamp_ns(message.header)] = pose(quaternion_to_rotation(q), position)
    return poses


def read_images(path: Path, topic: str = 'image') -> Iterator[tuple[int, np.ndarray]]:
    """(stamp in nanoseconds, [H, W, 3] uint8 RGB) of an rgb8 or bgr8 image topic of a bag."""
    for _, message, _, _ in _read(path, topic, (IMAGE,)):
        if message.encoding not in ('rgb8', 'bgr8'):
            raise AprlocError(f'{path}: {topic} is encoded as {message.encoding}, not as rgb8 or bgr8')
        rows = message.data.reshape(message.height, message.step)[:, :3 * message.width]
        image = rows.reshape(message.height, message.width, 3)
        yield _stamp_ns(message.header), image if message.encoding == 'rgb8' else image[..., ::-1]


def read_raw(path: Path, topic: str, msgtypes: tuple[str, ...]) -> Iterator[RawMessage]:
    """A topic's messages in the order of recording, ready to be published as they are. rosbag2 only."""
    try:
        with Reader(path) as reader:
            start_ns = reader.start_time
    except (ReaderError, OSError) as error:
        raise AprlocError(f'{path}: not a readable rosbag2: {str(error).splitlines()[0]}') from error
    for time_ns, message, _, data in _read(path, topic, msgtypes):
        yield RawMessage((time_ns - start_ns) / 1e9, _stamp_ns(message.header), bytes(data))
