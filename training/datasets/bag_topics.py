"""An open bag: its messages by topic, and which topic is meant where there are several."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aprloc_ros.errors import AprlocError


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
