"""Where the camera really was: from a recording's topic or TF, or a TUM file, at the stamps of its images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_messages import ODOMETRY, POSE, POSE_WITH_COVARIANCE
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.recordings.pose_messages import PoseRecord, of_one, to_trajectory, usable_poses
from aprloc_ros.recordings.recording import Recording, open_recording
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.tf_tree import TfTree
from aprloc_ros.recordings.trajectory import Trajectory, read_tum

TF_WORD = 'tf'           # names TF as the source of truth
OURS = 'truth'           # the topic that `aprloc bag` writes
# A topic with fewer poses than this share of the images is a goal or an initial guess, not a trajectory.
_MIN_POSE_SHARE = 0.05


@dataclass(frozen=True)
class TruthOptions:
    """source: a topic, a TUM file or 'tf' (None: what is found); frame: whose pose it is (None: see find_truth)."""

    source: str | None = None
    frame: str | None = None
    max_gap_s: float = field(default=0.1, metadata={'range': (0.0, 10.0)})


@dataclass(frozen=True, eq=False)
class Truth:
    """Poses of the camera in the map over time; source: where they come from, in words."""

    source: str
    lookup: Callable[[Tensor], tuple[Tensor, Tensor]]   # stamps [N] s -> T_map_cam [N, 4, 4], known [N] (bool)

    def at(self, stamps_ns: Sequence[int]) -> tuple[Tensor, Tensor]:
        """T_map_cam [N, 4, 4] at the stamps, and whether each is known [N] (bool)."""
        return self.lookup(torch.tensor([time_ns / 1e9 for time_ns in stamps_ns], dtype=torch.float64))


def find_truth(recording: Recording, tree: TfTree, options: TruthOptions, map_frame: str, camera_frame: str,
               images: int) -> Truth | None:
    """The source that the options name. Else the first of: the topic `truth`; the only topic of PoseStamped or
    PoseWithCovarianceStamped; the only Odometry in the map's frame; TF that moves the camera in the map; None.

    A pose is of the frame that the options name, else of Odometry's child_frame_id, else of the camera itself. tree: of
    the recording; images: how many it holds. Raises AprlocError for a source that is not there or not readable, where several are, and for
    the pose of a body that no transform connects with the camera.
    """
    gap_s, name, frame = options.max_gap_s, options.source, (options.frame or '').strip('/')
    if not 0 <= gap_s <= 10:
        raise AprlocError(f'--max-gap-s {gap_s:g} is outside 0 to 10 s')
    topic = None
    if name != TF_WORD:
        if name and Path(name).is_file():
            return _of_body(name, read_tum(Path(name)), frame, camera_frame, tree, gap_s)
        topic = _topic(recording, name, map_frame, images)
    if topic:
        trajectory, child = read_topic(recording, topic)
        return _of_body(f'topic {topic}', trajectory, frame or child, camera_frame, tree, gap_s)
    if tree.moves(map_frame, camera_frame):
        return Truth('TF', lambda stamps_s: tree.lookup(map_frame, camera_frame, stamps_s, gap_s))
    if name == TF_WORD:
        raise AprlocError(f'{recording.path}: TF does not move the image frame {camera_frame!r} in {map_frame!r}')
    return None


def _of_body(source: str, trajectory: Trajectory, body: str, camera_frame: str, tree: TfTree, gap_s: float) -> Truth:
    """The camera's poses from those of the body that carries it."""
    if body in ('', camera_frame):
        return Truth(source, lambda stamps_s: trajectory.at(stamps_s, gap_s))
    if not tree.connects(body, camera_frame):
        raise AprlocError(f'the truth ({source}) is of {body!r}, but no /tf_static leads from there to the image frame '
                          f'{camera_frame!r}; record /tf_static, or name the frame with --truth-frame')

    def lookup(stamps_s: Tensor) -> tuple[Tensor, Tensor]:
        T_map_body, known = trajectory.at(stamps_s, gap_s)
        T_body_cam, mounted = tree.lookup(body, camera_frame, stamps_s, gap_s)
        return T_map_body @ T_body_cam, known & mounted

    return Truth(f'{source}, of {body}', lookup)


def _topic(recording: Recording, name: str | None, map_frame: str, images: int) -> str | None:
    if name:
        return recording.named(name, (POSE, POSE_WITH_COVARIANCE, ODOMETRY), 'TUM file or topic of poses')
    poses = _trajectories(recording, images, POSE, POSE_WITH_COVARIANCE)
    odometry = [topic for topic in _trajectories(recording, images, ODOMETRY)
                if recording.first(topic).body.header.frame_id.strip('/') == map_frame]
    ours = [topic for topic in poses if topic.strip('/') == OURS]
    candidates = ours or poses or odometry
    return recording.only(candidates, 'topics with poses', '--truth') if candidates else None


def _trajectories(recording: Recording, images: int, *types: str) -> list[str]:
    fewest = max(1, min(2, images), _MIN_POSE_SHARE * images)
    return [topic for topic, count in recording.counts(*types).items() if count >= fewest]


def read_topic(recording: Recording, topic: str) -> tuple[Trajectory, str]:
    """The poses and their child_frame_id, where they have one. Raises AprlocError where many of them are none."""
    child = getattr(recording.first(topic).body, 'child_frame_id', '').strip('/')
    skipped = skipped_of(recording, topic)
    trajectory = to_trajectory(_of_first(recording, topic, skipped), skipped)
    recording.note(skipped.summary())
    return trajectory, child


def skipped_of(recording: Recording, topic: str) -> Skipped:
    return Skipped(f'messages of {topic}', recording.count(topic))


def _of_first(recording: Recording, topic: str, skipped: Skipped) -> Iterator[PoseRecord]:
    return of_one('frame', of_one('body', pose_records(recording, topic), skipped), skipped)


def pose_records(recording: Recording, topic: str) -> Iterator[PoseRecord]:
    """The messages of a topic of poses."""
    for message in recording.messages(topic):
        inner = message.body.pose if hasattr(message.body.pose, 'orientation') else message.body.pose.pose
        yield PoseRecord(stamp_ns(message.body.header.stamp), inner.position, inner.orientation, message.where,
                         message.body.header.frame_id.strip('/'), getattr(message.body, 'child_frame_id', '').strip('/'))


def read_poses(bag: Path, topic: str) -> dict[int, Tensor]:
    """Stamp in nanoseconds -> [4, 4] float64, of a PoseStamped or PoseWithCovarianceStamped topic of a bag."""
    with open_recording(bag) as recording:
        topic = recording.named(topic, (POSE, POSE_WITH_COVARIANCE), 'topic of poses')
        skipped = skipped_of(recording, topic)
        poses = dict(usable_poses(_of_first(recording, topic, skipped), skipped))
        skipped.summary()
        return poses


def read_tf(recording: Recording, topics: Sequence[str] = ('/tf_static', '/tf')) -> TfTree:
    """All transforms of the topics."""
    tree = TfTree(recording.note)
    for topic in topics:
        for message in recording.messages(topic):
            tree.add(message.body, topic == '/tf_static', message.where)
    return tree
