"""A rosbag2 (mcap, sqlite3) or ROS 1 bag: an image topic, its CameraInfo, and poses (see bag_poses).

Where a bag leaves a choice, `capture.yaml` beside it decides (see bag_topics.Choice).
"""

import hashlib
import os
from pathlib import Path

import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.repair import SUFFIXES, repair
from aprloc_ros.training.datasets.bag_images import camera_of, is_depth, write_image
from aprloc_ros.training.datasets.bag_poses import camera_poses
from aprloc_ros.training.datasets.bag_topics import BagTopics, stamp_s
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.choice import Choice, read_choice
from aprloc_ros.training.datasets.files import image_size, visible
from aprloc_ros.training.datasets.parsing import checked_capture, note_once
from aprloc_ros.training.datasets.splits import held_out, left_out
from aprloc_ros.training.datasets.trajectory import MAX_GAP_S

FORMAT = 'bag'
LOOKED_FOR = 'metadata.yaml with its bag, or one .mcap, .db3 or .bag file (ROS 2 and ROS 1 bags)'
RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def recognises(path: Path) -> bool:
    return _bag(path) is not None


def read(path: Path, cache_dir: Path | None = None) -> Capture:
    """Images are written below cache_dir (default: ~/.cache/aprloc)."""
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise AprlocError(f'{path}: reading bags needs rosbags: pip install "aprloc_ros[eval]"') from None
    bag = _bag(path)
    try:
        with AnyReader([bag], default_typestore=get_typestore(Stores.LATEST)) as reader:
            return _read_open(BagTopics(reader, bag), read_choice(bag), cache_dir)
    except AprlocError:
        raise
    except Exception as error:  # rosbags lets through whatever a damaged file provokes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise AprlocError(f'{bag}: not a readable bag ({reason}); try "{repair(bag)}"') from error


def _bag(path: Path) -> Path | None:
    """What rosbags opens: a rosbag2 folder or a single file."""
    if path.is_file():
        return path if path.suffix in SUFFIXES else None
    if (path / 'metadata.yaml').is_file():
        return path
    files = [file for file in visible(path) if file.suffix in SUFFIXES]
    return files[0] if len(files) == 1 else None


def _read_open(topics: BagTopics, choice: Choice, cache_dir: Path | None) -> Capture:
    bag = topics.bag
    image_topic = _image_topic(topics, choice)
    stamps, camera_frame = _image_stamps(topics, image_topic)
    T_map_cam, known = camera_poses(topics, choice, torch.tensor(stamps, dtype=torch.float64), camera_frame)
    if not known.any():
        raise AprlocError(f'{bag}: none of the {len(stamps)} images of {image_topic} has a pose at its time, nor two '
                          f'around it at most {MAX_GAP_S} s apart; are the stamps of the same clock?')
    camera = _camera(topics, choice, image_topic)
    folder = _cache(bag, cache_dir) / image_topic.strip('/').replace('/', '_')
    is_compressed = image_topic in topics.counts(COMPRESSED)
    frames = []
    for index, message, where in topics.messages(image_topic):
        if known[index]:
            file = write_image(message, is_compressed, folder / f'{index:06d}', where)
            if not frames:
                _check_size(file, camera, where)
            frames.append(Frame(file.name, file, T_map_cam[index], camera, stamp_s=stamps[index]))
    frames = tuple(sorted(frames, key=lambda frame: frame.stamp_s))
    train, test = held_out(frames, str(bag))
    notes = left_out(frames, train, test)
    if len(frames) < len(stamps):
        unposed = (f'{len(stamps) - len(frames)} of {len(stamps)} images of {image_topic} have no pose at their time, '
                   f'nor two around it at most {MAX_GAP_S} s apart, and are not used')
        notes = (unposed, *notes)
    return checked_capture(Capture(bag.stem, FORMAT, bag, train, test, notes=notes), bag)


def _image_topic(topics: BagTopics, choice: Choice) -> str:
    candidates = topics.counts(RAW, COMPRESSED)
    if choice.image_topic:
        return topics.chosen(choice.image_topic, candidates, 'image topic')
    colour = []
    for topic in candidates:
        message, _ = topics.first(topic)
        if not is_depth(message):
            colour.append(topic)
    return topics.only(colour, 'colour image topic', 'image_topic')


def _image_stamps(topics: BagTopics, topic: str) -> tuple[list[float], str]:
    """Stamps of all messages, and the frame_id of the first that has one."""
    stamps, seen, frame_id = [], {}, ''
    for _, message, where in topics.messages(topic):
        stamp = message.header.stamp
        note_once(seen, f'of {stamp.sec}.{stamp.nanosec:09d} s', where)
        stamps.append(stamp_s(message.header))
        frame_id = frame_id or message.header.frame_id.strip('/')
    return stamps, frame_id


def _camera(topics: BagTopics, choice: Choice, image_topic: str) -> Camera:
    """From the camera_info beside the image topic, or the only one of the bag."""
    infos = topics.counts('sensor_msgs/msg/CameraInfo')
    parts = image_topic.removesuffix('/compressed').split('/')
    beside = '/'.join([*parts[:-1], 'camera_info'])
    if choice.camera_info_topic:
        topic = topics.chosen(choice.camera_info_topic, infos, 'camera_info topic')
    else:
        topic = beside if beside in infos else topics.only(list(infos), 'CameraInfo topic', 'camera_info_topic')
    info, where = topics.first(topic)
    return camera_of(info, parts[-1].startswith('image_rect'), where)


def _check_size(file: Path, camera: Camera, where: str):
    width, height = image_size(file)
    if (width, height) != (camera.width, camera.height):
        raise AprlocError(f'{where}: the image is {width}x{height}, but camera_info says '
                          f'{camera.width}x{camera.height}')


def _cache(bag: Path, cache_dir: Path | None) -> Path:
    """A folder of this very bag, told by its files, their sizes and times of change."""
    root = cache_dir or Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'aprloc'
    files = visible(bag) if bag.is_dir() else [bag]
    marks = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return Path(root) / f'{bag.stem}-{hashlib.sha256(repr(marks).encode()).hexdigest()[:12]}'
