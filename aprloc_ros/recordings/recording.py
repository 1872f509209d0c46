"""A rosbag2 (mcap, sqlite3) or ROS 1 bag that is open for reading, without ROS."""

import contextlib
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from aprloc_ros.errors import AprlocError, typed
from aprloc_ros.recordings.repair import SUFFIXES, bag_files, is_bag_file, repair
from aprloc_ros.recordings.skipped import Skipped


class Message(NamedTuple):
    """One message of a topic."""

    recorded_ns: int   # when it was written
    body: object       # decoded
    data: bytes        # as it lies in the bag
    where: str         # bag, topic and index, for error messages


_PICTURES, _FILMS = ('.jpg', '.jpeg', '.png'), ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v')


@dataclass(frozen=True)
class Recording:
    """path: as the user named it; notes: what its user should hear of it, each said once."""

    path: Path
    reader: AnyReader
    notes: list[str] = field(default_factory=list)

    @property
    def start_ns(self) -> int:
        """When its first message was written."""
        return self.reader.start_time

    def counts(self, *types: str) -> dict[str, int]:
        """Number of messages of each topic of these types; empty topics are left out."""
        return {name: info.msgcount for name, info in self.reader.topics.items()
                if info.msgtype in types and info.msgcount}

    def count(self, topic: str) -> int:
        """Number of its messages."""
        return self.reader.topics[topic].msgcount

    def note(self, text: str) -> None:
        """Remember a line for the user; empty ones and repetitions are nothing to say."""
        if text and text not in self.notes:
            self.notes.append(text)

    def messages(self, topic: str) -> Iterator[Message]:
        """Of a topic in the order they were written; none for a topic that is not there.

        A message that cannot be decoded is left out, with a note. AprlocError where they are many, or the file is damaged.
        """
        connections = [connection for connection in self.reader.connections if connection.topic == topic]
        written = self.reader.messages(connections) if connections else iter(())
        skipped = Skipped(f'messages of {topic}', self.count(topic) if connections else 0)
        for index in itertools.count():
            with _reading(self.path):
                connection, recorded_ns, data = next(written, (None, 0, b''))
            if connection is None:
                self.note(skipped.summary())
                return
            where = f'{self.path}: {topic}, message {index}'
            try:
                body = self.reader.deserialize(data, connection.msgtype)
            except Exception as error:  # noqa: BLE001  rosbags lets whatever it meets through
                skipped.add('content', f'{where}: not a readable {connection.msgtype} ({_first_line(error)})')
            else:
                yield Message(recorded_ns, body, bytes(data), where)

    def first(self, topic: str) -> Message:
        return next(self.messages(topic))

    def named(self, name: str, types: Collection[str], what: str) -> str:
        """The topic of that name, with or without its leading slash. AprlocError tells what there is instead."""
        found = {topic.strip('/'): topic for topic in self.counts(*types)}
        if name.strip('/') not in found:
            raise AprlocError(f'{self.path}: no {what} {name}; {self._contents()}')
        return found[name.strip('/')]

    def only(self, candidates: Collection[str], what: str, option: str) -> str:
        """The one candidate. AprlocError names the option that chooses where there are several."""
        if not candidates:
            raise AprlocError(f'{self.path}: no {what}; {self._contents()}')
        if len(candidates) > 1:
            raise AprlocError(f'{self.path}: {len(candidates)} {what} ({", ".join(sorted(candidates))}); '
                              f'choose one with {option}')
        return next(iter(candidates))

    def _contents(self) -> str:
        topics = (f'{name} ({info.msgtype}, {info.msgcount})' for name, info in self.reader.topics.items())
        return f'it holds {", ".join(topics) or "nothing"}'


@contextlib.contextmanager
def open_recording(path: Path) -> Iterator[Recording]:
    """path: a rosbag2's folder, a folder with one bag file, or such a file. AprlocError where it cannot be read."""
    path = Path(path)
    with contextlib.ExitStack() as stack:
        with _reading(path):
            reader = stack.enter_context(AnyReader([_bag(path)], default_typestore=get_typestore(Stores.LATEST)))
        yield Recording(path, reader)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Makes one AprlocError of whatever rosbags lets through when a file is damaged."""
    try:
        yield
    except AprlocError:
        raise
    except Exception as error:
        raise AprlocError(f'{path}: not a readable bag ({_first_line(error)}); try "{repair(path)}"') from error


def _bag(path: Path) -> Path:
    """What rosbags opens: a rosbag2's folder or a single file."""
    if not path.exists():
        raise AprlocError(f'{path}: there is no such bag')
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        files = bag_files(path)
        if not files and any(file.suffix.lower() in _PICTURES for file in path.iterdir()):
            raise AprlocError(f'{path}: images, not a bag; localise one with aprloc localize IMAGE --map NAME, score those '
                              'with poses with aprloc evaluate NAME --data PATH')
        if len(files) != 1:
            parts = f' (or, if they are parts of one recording, try "ros2 bag reindex {typed(path)}")' if files else ''
            raise AprlocError(f'{path}: not a readable bag: no metadata.yaml and {len(files)} files of '
                              f'{", ".join(SUFFIXES)}; name a bag{parts}')
        return _bag(files[0])
    if path.suffix.lower() in _FILMS:
        raise AprlocError(f'{path}: a video, not a bag; aprloc pose {typed(path)} --out CAPTURE finds the poses of its '
                          f'frames, aprloc build NAME --data CAPTURE makes a map of them and aprloc evaluate NAME --data CAPTURE scores those held out')
    if path.is_file() and path.suffix not in SUFFIXES and is_bag_file(path):
        raise AprlocError(f'{path}: not a readable bag: its recording was not ended; try "{repair(path)}"')
    if path.is_file() and path.suffix not in SUFFIXES:
        raise AprlocError(f'{path}: not a readable bag: a bag is a folder with metadata.yaml or a file of '
                          f'{", ".join(SUFFIXES)}')
    return path
