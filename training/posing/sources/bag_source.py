"""The images of a ROS 1 or ROS 2 bag as a source, with camera_info or without, decoded as replay and node do."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import BagImage, read_images
from aprloc_ros.recordings.recording import Recording, open_recording
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.stamp_order import RecordedOrder
from aprloc_ros.training.datasets.choice import read_choice
from aprloc_ros.training.datasets.formats.bag_capture import write_image
from aprloc_ros.training.datasets.formats.bag_topics import chosen_topics
from aprloc_ros.training.posing.sources.shots import LOOKS_HZ, Look, Optics, Shot, reduced


class BagSource:
    """capture.yaml beside the bag chooses where it has several topics. Images are named by their number in the topic."""

    what = 'bag'
    is_video = True

    def __init__(self, path: Path):
        self.path, self.notes = path, []
        with open_recording(path) as recording:
            self._count = recording.count(self._topics(recording).image)
        self._warned = False

    def __len__(self) -> int:
        return self._count

    def looks(self) -> Iterator[Look]:
        with open_recording(self.path) as recording:
            skipped, order, last_ns = Skipped('images', self._count), RecordedOrder(), None
            for image in self._images(recording):
                refusal = order.refusal(image.stamp_ns)
                if refusal:
                    skipped.add('stamp', f'{image.where}: {refusal}')
                elif last_ns is None or abs(image.stamp_ns - last_ns) > 0.9e9 / LOOKS_HZ:   # a clock may be set back
                    last_ns = image.stamp_ns
                    try:
                        yield Look(image.index, image.stamp_ns / 1e9, reduced(image.pixels()))
                    except AprlocError as error:
                        skipped.add('image', f'{image.where}: {error}')
            self.notes += filter(None, [skipped.summary()])

    def take(self, indices: Sequence[int], folder: Path) -> Iterator[Shot]:
        wanted = set(indices)
        with open_recording(self.path) as recording:
            for image in self._images(recording):
                if image.index in wanted:
                    pixels = image.pixels()
                    file = write_image(image.message, pixels, folder / f'{image.index:06d}')
                    height, width = pixels.shape[:2]
                    yield Shot(file.name, Optics(width, height, self._camera(image, width, height)), image.stamp_ns / 1e9)

    def _images(self, recording: Recording) -> Iterator[BagImage]:
        return read_images(recording, self._topics(recording))

    def _topics(self, recording: Recording):
        return chosen_topics(recording, read_choice(self.path))

    def _camera(self, image: BagImage, width: int, height: int) -> Camera | None:
        """None, and a note once, where camera_info does not say which camera took the image."""
        try:
            camera = image.camera()
            if camera is None or (camera.width, camera.height) == (width, height):
                return camera
            reason = f'camera_info is of {camera.width}x{camera.height}, the image {width}x{height}'
        except AprlocError as error:
            reason = str(error)
        if not self._warned:
            self.notes.append(f'WARNING: {image.where}: {reason}; the lens is estimated from the images instead')
            self._warned = True
        return None
