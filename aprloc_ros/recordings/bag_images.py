"""The images of a recording as the localizer takes them: which topic, decoded, each with the camera that took it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_messages import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from aprloc_ros.recordings.camera_info import camera_from_info, names_rectified
from aprloc_ros.recordings.camera_infos import CameraInfos
from aprloc_ros.recordings.decoding.encoded_images import MAX_IMAGE_BYTES
from aprloc_ros.recordings.decoding.image_messages import decode_image, is_depth
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.recordings.recording import Recording

_BEHIND_NS = 500_000_000   # of an image, by which its camera_info may have been recorded


@dataclass(frozen=True)
class ImageTopics:
    """Where a recording keeps its images and their camera."""

    image: str
    camera_info: str | None   # None: the map's camera took the images
    declared_rectified: bool = False   # whatever the topic is called

    @property
    def rectified(self) -> bool:
        return self.declared_rectified or names_rectified(self.image)


@dataclass(frozen=True, eq=False)
class BagImage:
    """One image message, not decoded yet, and the camera_info of its time."""

    index: int           # in its topic, from 0
    recorded_ns: int
    stamp_ns: int
    frame_id: str
    message: object      # sensor_msgs/Image or CompressedImage
    info: object | None  # sensor_msgs/CameraInfo
    rectified: bool
    where: str = ''      # bag, topic and index, for error messages
    others: str = ''     # the frame of the first images of the topic, where this one is of another

    @property
    def name(self) -> str:
        """How tables and pictures call it."""
        return frame_name(self.index)

    def camera(self) -> Camera | None:
        """None: the map's own. Raises AprlocError for a camera_info that describes none, and for an image of another camera."""
        if self.others:
            raise AprlocError(f'the image is of the frame {self.frame_id[:80]!r}, the first ones of {self.others[:80]!r}: another camera\'s? '
                              'Record each on a topic of its own')
        return None if self.info is None else camera_from_info(self.info, self.rectified)

    def pixels(self) -> np.ndarray:
        """[H, W, 3] uint8 RGB. Raises AprlocError for an image that does not decode."""
        return decode_image(self.message, MAX_IMAGE_BYTES)


def frame_name(index: int) -> str:
    return f'frame {index:04d}'


def choose_topics(recording: Recording, image: str | None = None, camera_info: str | None = None,
                  options: tuple[str, str] = ('--image', '--camera-info'), rectified: bool = False) -> ImageTopics:
    """The topics of these names; else the only topic of colour images, and the camera_info beside it or the only one.

    options: how a user names the two; rectified: declared of the images. Raises AprlocError that names the candidates where there are several, or says that
    a name is not there.
    """
    if image:
        image = recording.named(image, (IMAGE, COMPRESSED_IMAGE), 'image topic')
    else:
        colour = [topic for topic in recording.counts(IMAGE, COMPRESSED_IMAGE)
                  if not is_depth(recording.first(topic).body)]
        image = recording.only(colour, 'topics with colour images', options[0])
    if camera_info:
        return ImageTopics(image, recording.named(camera_info, (CAMERA_INFO,), 'camera_info topic'), rectified)
    infos = recording.counts(CAMERA_INFO)
    beside = image.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'
    found = next((topic for topic in infos if topic.strip('/') == beside.strip('/')), None)
    if infos and not found:
        found = recording.only(infos, 'topics with camera_info', options[1])
        _check_of_one_camera(recording, image, found, options[1])
    return ImageTopics(image, found, rectified)


def _check_of_one_camera(recording: Recording, image: str, camera_info: str, option: str) -> None:
    """A topic that is not the image's by its name may be another camera's: their frames tell."""
    theirs, its = (recording.first(topic).body.header.frame_id.strip('/') for topic in (image, camera_info))
    if theirs and its and theirs != its:
        raise AprlocError(f'{recording.path}: the only camera_info, {camera_info}, is of the frame {its!r}, the images of {image} of '
                          f'{theirs!r}: another camera took them; if it is theirs nevertheless, choose it with {option}')


def camera_frame(recording: Recording, topics: ImageTopics) -> str:
    """The frame_id of the first image that has one; empty where none has."""
    return next((image.frame_id for image in read_images(recording, topics) if image.frame_id), '')


def read_images(recording: Recording, topics: ImageTopics) -> Iterator[BagImage]:
    """All images in the order of recording, each with the camera_info of its stamp, else the newest of its time, the first with
    the first.
    """
    infos, ahead = itertools.tee(recording.messages(topics.camera_info) if topics.camera_info else ())
    info, following, coming, known, first = None, next(infos, None), next(ahead, None), CameraInfos(), ''
    for index, image in enumerate(recording.messages(topics.image)):
        while following and (info is None or following.recorded_ns <= image.recorded_ns):
            info, following = following.body, next(infos, None)
        while coming and coming.recorded_ns <= image.recorded_ns + _BEHIND_NS:
            known.add(coming.body)
            coming = next(ahead, None)
        head = image.body.header
        frame_id = head.frame_id.strip('/')
        first = first or frame_id
        yield BagImage(index, image.recorded_ns, stamp_ns(head.stamp), frame_id, image.body, known.of(stamp_ns(head.stamp), info),
                       topics.rectified, image.where, first if frame_id not in ('', first) else '')
