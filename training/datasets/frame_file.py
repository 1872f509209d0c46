"""What the unit and the axes of a capture's poses are: `frame.yaml` beside the capture, where something measured them."""

from pathlib import Path

import yaml

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.placement.map_frame import MapFrame

FILE_NAME = 'frame.yaml'


def write_frame(root: Path, frame: MapFrame) -> None:
    """Keep it with the capture in that folder."""
    (root / FILE_NAME).write_text(yaml.safe_dump(to_mapping(frame), sort_keys=False))


def read_frame(root: Path) -> MapFrame:
    """Of the capture there; where nobody says, its poses are in metres. AprlocError for a file that says nothing."""
    path = root / FILE_NAME
    if not path.is_file():
        return MapFrame()
    try:
        return from_mapping(MapFrame, yaml.safe_load(path.read_text()), str(path))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise AprlocError(f'{path}: not a readable frame: {str(error).splitlines()[0]}') from None
