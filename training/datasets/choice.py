"""capture.yaml: what to take where a capture leaves a choice."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.parsing import read_text

CHOICE_FILE = 'capture.yaml'
COLOURS = ('black', 'white')


@dataclass(frozen=True)
class Choice:
    """The file's keys; each may be left out."""

    image_topic: str | None = None
    camera_info_topic: str | None = None
    rectified: bool = False           # the images are, whatever their topic is called; as of the node
    pose_topic: str | None = None
    pose_frame: str | None = None     # the frame whose pose the topic gives, where the messages do not say
    model: str | None = None          # of several COLMAP models, by its folder
    masks_hide: str | None = None     # which pixels of masks hide: black or white


def read_choice(path: Path) -> Choice:
    """Of the capture in a folder, or in a file beside which the choice lies."""
    file = (path if path.is_dir() else path.parent) / CHOICE_FILE
    if not file.is_file():
        return Choice()
    try:
        values = yaml.safe_load(read_text(file)) or {}
    except yaml.YAMLError as error:
        raise AprlocError(f'{file}: not YAML ({str(error).splitlines()[0]})') from None
    allowed = {field.name: bool if field.name == 'rectified' else str for field in fields(Choice)}
    if not isinstance(values, dict):
        raise AprlocError(f'{file}: must map keys to names; the keys are {", ".join(allowed)}')
    for key, value in values.items():
        if not isinstance(value, allowed.get(key, ())):
            raise AprlocError(f'{file}: "{key}: {value}": the keys are {", ".join(allowed)}, each a name, but rectified true or false')
    if 'pose_frame' in values:
        values['pose_frame'] = values['pose_frame'].strip('/')   # as in TF
    choice = Choice(**values)
    if choice.masks_hide not in (None, *COLOURS):
        raise AprlocError(f'{file}: "masks_hide: {choice.masks_hide}" must be {" or ".join(COLOURS)}')
    return choice
