"""A rosbag2 (mcap, sqlite3) or ROS 1 bag: an image topic, its CameraInfo, and poses (see bag_poses).

Where a bag leaves a choice, `capture.yaml` beside it decides (see choice.Choice).
"""

from pathlib import Path

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.repair import bag_files, is_bag_file
from aprloc_ros.training.datasets.capture import Capture
from aprloc_ros.training.datasets.files import image_files

LOOKED_FOR = 'metadata.yaml with its bag, or one .mcap, .db3 or .bag file (ROS 2 and ROS 1 bags)'


def recognises(path: Path) -> bool:
    return _bag(path) is not None


def read(path: Path, cache_dir: Path | None = None) -> Capture:
    """Images are written below cache_dir (default: ~/.cache/aprloc)."""
    try:
        from aprloc_ros.training.datasets.formats.bag_capture import read_bag
    except ImportError as error:
        if (error.name or '').partition('.')[0] != 'rosbags':
            raise
        raise AprlocError(f'{path}: reading bags needs rosbags: pip install "aprloc_ros[eval]"') from None
    return read_bag(_bag(path), cache_dir)


def _bag(path: Path) -> Path | None:
    """What rosbags opens: a rosbag2 folder or a single file."""
    if path.is_file():
        return path if is_bag_file(path) else None
    if (path / 'metadata.yaml').is_file():
        return path
    files = bag_files(path) if path.is_dir() else []
    if len(files) == 1:
        return files[0]
    has_images = image_files(path) or image_files(path / 'images')
    return path if files and not has_images else None   # which of them, its reader asks
