"""An open bag: its messages by topic, and which topic is meant where there are several."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.parsing import read_text


@dataclass(frozen=True)
class Choice:
    """capture.yaml beside a bag: what to take where it leaves a choice. Each key may be left out."""

    image_topic: str | None = None
    camera_info_topic: str | None = None
    pose_topic: str | None = None
    pose_frame: str | None = None     # the frame whose pose the topic gives, where the messages do not say


def read_choice(file: Path) -> Choice:
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


@dataclass(frozen=True)
class BagTopics:
    """reader: an open rosbags AnyReader; bag: the path that messages name."""

    reader: object
    bag: Path

    def messages(self, topic: str) -> Iterator[tuple[int, object, str]]:
        """(index, message, place) of each message of a topic, none for a topic that is not there."""
        connections = [connection for connection in self.reader.connections if connection.topic == topic]
        for index, (connection, _, raw) in enumerate(self.reader.messages(connections) if connections else ()):
            yield index, self.reader.deserialize(raw, connection.msgtype), f'{self.bag}: {topic}, message {index}'

    def first(self, topic: str) -> tuple[object, str]:
        _, message, where = next(self.messages(topic))
        return message, where

    def counts(self, *types: str) -> dict[str, int]:
        """Number of messages of each topic of these types; empty topics are left out."""
        return {name: info.msgcount for name, info in self.reader.topics.items()
                if info.msgtype in types and info.msgcount}

    def only(self, candidates: list[str], what: str, key: str) -> str:
        """The one candidate. AprlocError tells how to choose when there are several."""
        if not candidates:
            raise AprlocError(f'{self.bag}: holds no {what}')
        if len(candidates) > 1:
            raise AprlocError(f'{self.bag}: holds {len(candidates)} of {what} ({", ".join(sorted(candidates))}); '
                              f'write "{key}: <one of them>" into capture.yaml beside the bag')
        return candidates[0]

    def chosen(self, name: str, candidates, what: str) -> str:
        """The name that capture.yaml gives, if it is one of the candidates."""
        if name not in candidates:
            raise AprlocError(f'{self.bag}: capture.yaml asks for {what} {name}, which the bag does not hold '
                              f'(it has {", ".join(sorted(candidates)) or "none"})')
        return name


def stamp_s(header) -> float:
    return header.stamp.sec + header.stamp.nanosec * 1e-9
