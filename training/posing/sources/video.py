"""A video file as a source: mp4, mov, avi and what else OpenCV reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.files import save_image
from aprloc_ros.training.posing.sources.shots import LOOKS_HZ, Look, Optics, Shot, reduced

SUFFIXES = ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v')
_QUALITY = 95   # of the JPEGs that frames become
_USUAL_HZ = 30.0


class Video:
    """Frames are named by their number, their stamps count from the video's start; those of phones do not come evenly."""

    what = 'video'
    is_video = True

    def __init__(self, path: Path):
        self.path, self.notes = path, []
        video = self._opened()
        rate_hz, self._count = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.release()
        self._rate_hz = rate_hz if 1 <= rate_hz <= 1000 else _USUAL_HZ   # some files say 0 or a clock's ticks
        self._stride = max(1, int(self._rate_hz / LOOKS_HZ))

    def __len__(self) -> int:
        return max(1, self._count // self._stride)

    def looks(self) -> Iterator[Look]:
        for index, stamp_s, frame in self._frames(lambda index: index % self._stride == 0):
            yield Look(index, stamp_s, reduced(frame[..., ::-1]))

    def take(self, indices: Sequence[int], folder: Path) -> Iterator[Shot]:
        wanted = set(indices)
        for index, stamp_s, frame in self._frames(wanted.__contains__):
            name = f'{index:06d}.jpg'
            save_image(folder / name, frame, cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
            yield Shot(name, Optics(frame.shape[1], frame.shape[0]), stamp_s)

    def _opened(self) -> cv2.VideoCapture:
        video = cv2.VideoCapture(str(self.path))
        if not video.isOpened() or not video.grab():
            video.release()
            raise AprlocError(f'{self.path}: not a readable video ({self.path.stat().st_size} bytes); convert it with '
                              f'ffmpeg -i {self.path.name} video.mp4')
        video.release()
        return cv2.VideoCapture(str(self.path))

    def _frames(self, is_wanted) -> Iterator[tuple[int, float, np.ndarray]]:
        """(number, stamp, [H, W, 3] BGR) of the frames that are wanted."""
        video, index = self._opened(), 0
        while video.grab():
            if is_wanted(index):
                good, frame = video.retrieve()
                if good:
                    told_s = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
                    yield index, told_s if told_s > 0 else index / self._rate_hz, frame   # some files say nothing
            index += 1
        video.release()
