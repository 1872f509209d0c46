"""The images of a bag that have a pose as a capture: each is decoded as replay and node do, and written to a file."""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import BagImage, ImageTopics, camera_frame, read_images
from aprloc_ros.recordings.decoding import jpeg, png
from aprloc_ros.recordings.decoding.image_messages import bayer_pattern
from aprloc_ros.recordings.recording import Recording, open_recording
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.stamp_order import RecordedOrder
from aprloc_ros.tracking.answer import FrameRejected, check_picture, rejecting
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.choice import Choice, read_choice
from aprloc_ros.training.datasets.files import visible
from aprloc_ros.training.datasets.formats.bag_poses import MAX_GAP_S, camera_poses
from aprloc_ros.training.datasets.formats.bag_topics import chosen_topics
from aprloc_ros.training.datasets.parsing import checked_capture
from aprloc_ros.training.datasets.splits import held_out, left_out
from aprloc_ros.training.datasets.stereo import mounts_of_pair

FORMAT = 'bag'


def read_bag(bag: Path, cache_dir: Path | None) -> Capture:
    """bag: what rosbags opens. Messages that a node would refuse are left out; AprlocError where they are many."""
    with open_recording(bag) as recording:
        choice = read_choice(bag)
        topics = _topics(recording, choice)
        skipped = Skipped(f'images of {topics.image}', recording.count(topics.image))
        stamps_ns = _stamps(recording, topics, skipped)
        T_map_cam, mounts = _poses(recording, choice, stamps_ns, topics)
        mounts = {**mounts, **mounts_of_pair(recording.first(topics.camera_info).body, topics.rectified)}
        folder = _cache(bag, cache_dir) / topics.image.strip('/').replace('/', '_')
        frames = []
        for image in read_images(recording, topics):
            if image.index in T_map_cam:
                try:
                    frames.append(_frame(image, T_map_cam[image.index], folder))
                except FrameRejected as no:
                    skipped.add(no.reason, f'{image.where}: {no.text}')
        recording.note(skipped.summary())
        unposed = _unposed(len(stamps_ns) - len(T_map_cam), len(stamps_ns), topics.image)
        recording.note(unposed)
        frames = tuple(sorted(frames, key=lambda frame: frame.stamp_s))
        train, test = held_out(frames, '; '.join(filter(None, [str(bag), unposed])))
        notes = *recording.notes, *left_out(frames, train, test)
        return checked_capture(Capture(bag.stem, FORMAT, bag, train, test, notes=notes, mounts=mounts), bag)


def _topics(recording: Recording, choice: Choice) -> ImageTopics:
    topics = chosen_topics(recording, choice)
    if topics.camera_info is None:
        raise AprlocError(f'{recording.path}: no camera_info topic, so nothing tells which camera took {topics.image}; '
                          f'record the camera_info beside it, or let aprloc pose estimate the lens')
    return topics


def _stamps(recording: Recording, topics: ImageTopics, skipped: Skipped) -> dict[int, int]:
    """Index -> stamp in ns of each image that may follow those before it."""
    stamps_ns, order = {}, RecordedOrder()
    for image in read_images(recording, topics):
        refusal = order.refusal(image.stamp_ns)
        if refusal:
            skipped.add('stamp', f'{image.where}: {refusal}')
        else:
            stamps_ns[image.index] = image.stamp_ns
    skipped.summary()
    return stamps_ns


def _poses(recording: Recording, choice: Choice, stamps_ns: dict[int, int], topics: ImageTopics,
           ) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
    """Index -> T_map_cam [4, 4] of the images whose pose is known, and Capture.mounts."""
    stamps_s = torch.tensor([stamp_ns / 1e9 for stamp_ns in stamps_ns.values()], dtype=torch.float64)
    poses = camera_poses(recording, choice, stamps_s, camera_frame(recording, topics))
    if not poses.known.any():
        raise AprlocError(f'{recording.path}: none of the {len(stamps_s)} images of {topics.image} has a pose at its time, nor '
                          f'two around it at most {MAX_GAP_S} s apart; are the stamps of the same clock?')
    known = zip(stamps_ns, poses.T_map_cam, poses.known, strict=True)
    return {index: T for index, T, is_known in known if is_known}, poses.mounts


def _unposed(count: int, total: int, topic: str) -> str:
    if not count:
        return ''
    return (f'{count} of {total} images of {topic} have no pose at their time, nor two around it at most {MAX_GAP_S} s apart, '
            f'and are not used')


def _frame(image: BagImage, T_map_cam: Tensor, folder: Path) -> Frame:
    """Raises FrameRejected for what a node rejects: a camera or an image that cannot be read, or two that do not fit."""
    with rejecting('camera_info'):
        camera = image.camera()
    with rejecting('image'):
        pixels = image.pixels()
    check_picture(pixels, camera, min_contrast=0.0)
    file = write_image(image.message, pixels, folder / f'{image.index:06d}')
    return Frame(file.name, file, T_map_cam, camera, stamp_s=image.stamp_ns / 1e9)


def write_image(message, pixels: np.ndarray, stem: Path) -> Path:
    """Write the image once: as it came where that is a file which shows the pixels, else as PNG. Returns the file."""
    came = b'' if hasattr(message, 'encoding') else memoryview(message.data).tobytes()
    if not came or bayer_pattern(message) or png.has_16_bits(came):   # of which a node takes each by itself to 8 bits
        suffix, bgr = '.png', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        content = cv2.imencode(suffix, bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    else:
        content, suffix = came, '.jpg' if came.startswith(jpeg.START) else '.png'
    file = stem.with_name(stem.name + suffix)
    if not file.is_file() or file.stat().st_size != len(content):
        stem.parent.mkdir(parents=True, exist_ok=True)
        partial = stem.with_name(stem.name + '.part')
        partial.write_bytes(content)
        partial.replace(file)
    return file


def _cache(bag: Path, cache_dir: Path | None) -> Path:
    """A folder of this very bag, told by its files, their sizes and times of change."""
    root = cache_dir or Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'aprloc'
    files = visible(bag) if bag.is_dir() else [bag]
    marks = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return Path(root) / f'{bag.stem}-{hashlib.sha256(repr(marks).encode()).hexdigest()[:12]}'
