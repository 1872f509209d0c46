"""Which source of images a path is."""

from pathlib import Path

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.formats import bag
from aprloc_ros.training.posing.sources import video
from aprloc_ros.training.posing.sources.photos import Photos, find_images
from aprloc_ros.training.posing.sources.shots import Source

LOOKED_FOR = 'a folder of images, a video, a rosbag2 or a ROS 1 bag'


def open_source(path: Path) -> Source:
    """AprlocError where it is none, or nothing can be read of it."""
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise AprlocError(f'{path}: no such file or folder; wanted is {LOOKED_FOR}')
    if bag.recognises(path):
        try:
            from aprloc_ros.training.posing.sources.bag_source import BagSource
        except ImportError as error:
            if (error.name or '').partition('.')[0] != 'rosbags':
                raise
            raise AprlocError(f'{path}: reading bags needs rosbags: pip install "aprloc_ros[eval]"') from None
        return BagSource(path)
    if path.is_dir():
        return Photos(path)
    if path.suffix.lower() in video.SUFFIXES:
        return video.Video(path)
    raise AprlocError(f'{path}: not {LOOKED_FOR}; videos end in {", ".join(video.SUFFIXES)}')


def is_source(path: Path) -> bool:
    """Whether there is something to pose, by names alone."""
    path = Path(path).expanduser()
    if bag.recognises(path):
        return True
    return bool(find_images(path)) if path.is_dir() else path.is_file() and path.suffix.lower() in video.SUFFIXES
