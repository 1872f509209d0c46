"""capture.yaml beside a bag: what to take where the bag leaves a choice."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.parsing import read_text

FILE = 'capture.yaml'


@dataclass(frozen=True)
class Choice:
    """Each key may be left out."""

    image_topic: str | None = None
    camera_info_topic: str | None = None
    pose_topic: str | None = None
    pose_frame: str | None = None     # the frame whose pose the topic gives, where the messages do not say


def read_choice(bag: Path) -> Choice:
    """Of the file in a bag's folder, or beside the bag."""
    file = (bag if bag.is_dir() else bag.parent) / FILE
    if not file.is_file():
        return Choice()
    try:
        values = yaml.safe_load(read_text(file)) or {}
    except yaml.YAMLError as error:
        raise AprlocError(f'{file}: not YAML ({str(error).splitlines()[0]})') from None
    allowed = [field.name for field in fields(Choice)]
    if not isinstance(values, dict):
        raise AprlocError(f'{file}: must map keys to names; the keys are {", ".join(allowed)}')
    for key, value in values.items():
        if key not in allowed or not isinstance(value, str):
            raise AprlocError(f'{file}: "{key}: {value}": the keys are {", ".join(allowed)}, each a name')
    return Choice(**values)


def key_in_file(key: str) -> str:
    """How to write a choice, in words that follow `choose one with`."""
    return f'"{key}: <one of them>" in {FILE} beside the bag'
