"""The camera's pose at the stamps of a bag's images: from a TUM file, a topic or TF."""

from pathlib import Path

from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_messages import ODOMETRY, POSE, POSE_WITH_COVARIANCE
from aprloc_ros.recordings.recording import Recording
from aprloc_ros.recordings.truth import read_tf, read_topic
from aprloc_ros.training.datasets.choice import Choice
from aprloc_ros.training.datasets.trajectory import MAX_GAP_S, read_tum_trajectory

POSES = (POSE, POSE_WITH_COVARIANCE)
# A topic with fewer poses than this share of the images is a goal or an initial guess, not a trajectory.
MIN_POSE_SHARE = 0.05


def camera_poses(recording: Recording, choice: Choice, stamps_s: Tensor, camera_frame: str) -> tuple[Tensor, Tensor]:
    """T_map_cam [M, 4, 4] at the stamps [M], and whether each is known [M] (bool).

    The first of: the topic that capture.yaml names, a TUM file, a pose topic, TF below `map`, odometry, TF.
    """
    if choice.pose_topic:
        topic = recording.named(choice.pose_topic, (*POSES, ODOMETRY), 'pose topic')
        return _from_topic(recording, topic, choice, stamps_s, camera_frame)
    file = _tum_file(recording.path)
    if file:
        return read_tum_trajectory(file).at(stamps_s, MAX_GAP_S)
    poses, odometry = (_trajectories(recording, types, len(stamps_s)) for types in (POSES, (ODOMETRY,)))
    if poses:
        topic = recording.only(poses, 'topics with poses', key_in_file('pose_topic'))
        return _from_topic(recording, topic, choice, stamps_s, camera_frame)
    tree = read_tf(recording)
    *_, root = tree.ancestors(camera_frame)
    if tree.moves('map', camera_frame):
        return tree.lookup('map', camera_frame, stamps_s, MAX_GAP_S)
    if odometry:
        topic = recording.only(odometry, 'topics with odometry', key_in_file('pose_topic'))
        return _from_topic(recording, topic, choice, stamps_s, camera_frame)
    if tree.moves(root, camera_frame):
        return tree.lookup(root, camera_frame, stamps_s, MAX_GAP_S)
    raise AprlocError(f'{recording.path}: no poses: record a PoseStamped, PoseWithCovarianceStamped or Odometry topic, or '
                      f'/tf that moves {camera_frame!r}, or write {tum_files(recording.path)[0]} '
                      f'("stamp tx ty tz qx qy qz qw")')


def key_in_file(key: str) -> str:
    """How to make a choice, in words that follow `choose one with`."""
    return f'"{key}: <one of them>" in capture.yaml beside the bag'


def tum_files(bag: Path) -> list[Path]:
    """Where a TUM trajectory of the camera may lie: in a bag's folder, or beside the bag under its name."""
    folder = bag if bag.is_dir() else bag.parent
    inside = sorted(bag.glob('*.tum')) if bag.is_dir() else []
    beside = [bag.with_name(bag.stem + '.tum'), bag.with_name(bag.stem + '.txt')]
    return [folder / 'groundtruth.txt', *inside, *beside]


def _tum_file(bag: Path) -> Path | None:
    return next((file for file in tum_files(bag) if file.is_file()), None)


def _trajectories(recording: Recording, types: tuple[str, ...], images: int) -> list[str]:
    return [topic for topic, count in recording.counts(*types).items() if count >= max(2, MIN_POSE_SHARE * images)]


def _from_topic(recording: Recording, topic: str, choice: Choice, stamps_s: Tensor, camera_frame: str):
    """A pose is of the camera's optical frame unless child_frame_id or capture.yaml names another one."""
    trajectory, child = read_topic(recording, topic)
    T_map_body, known = trajectory.at(stamps_s, MAX_GAP_S)
    body = choice.pose_frame or child
    if not body or body == camera_frame:
        return T_map_body, known
    tree = read_tf(recording)
    if not tree.connects(body, camera_frame):
        raise AprlocError(f'{recording.path}: {topic} gives the pose of {body}, but no /tf_static leads from there to the '
                          f'image frame {camera_frame!r}; record /tf_static, or write pose_frame into capture.yaml')
    T_body_cam, mounted = tree.lookup(body, camera_frame, stamps_s, MAX_GAP_S)
    return T_map_body @ T_body_cam, known & mounted
