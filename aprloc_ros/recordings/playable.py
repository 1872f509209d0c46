"""What a bag must hold to be played through the node and judged. No torch, so that launch can ask."""

from pathlib import Path

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.recording import open_recording

_NEEDED = {'image': ('sensor_msgs/msg/Image',), 'camera_info': ('sensor_msgs/msg/CameraInfo',),
           'truth': ('geometry_msgs/msg/PoseStamped', 'geometry_msgs/msg/PoseWithCovarianceStamped')}


def check_playable(bag: Path) -> None:
    """Raises AprlocError for a bag that is not there, not readable, or without one of the topics."""
    cure = 'write one with: aprloc bag --data PATH --out BAG'
    if not bag.exists():
        raise AprlocError(f'bag {bag} does not exist; {cure}')
    with open_recording(bag) as recording:
        for topic, types in _NEEDED.items():
            recording.named(topic, types, f'topic of {types[0]}')
