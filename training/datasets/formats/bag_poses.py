"""The camera's pose at the stamps of a bag's images: from a TUM file, a topic or TF."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.recordings.bag_messages import ODOMETRY, POSE, POSE_WITH_COVARIANCE
from aprloc_ros.recordings.recording import Recording
from aprloc_ros.recordings.tf_tree import TfTree
from aprloc_ros.recordings.truth import read_tf, read_topic
from aprloc_ros.training.datasets.capture import NoPoses
from aprloc_ros.training.datasets.choice import Choice
from aprloc_ros.training.datasets.files import visible
from aprloc_ros.training.datasets.formats.bag_topics import key_in_file
from aprloc_ros.training.datasets.trajectory import MAX_GAP_S, read_tum_trajectory

POSES = (POSE, POSE_WITH_COVARIANCE)
# A topic with fewer poses than this share of the images is a goal or an initial guess, not a trajectory.
MIN_POSE_SHARE = 0.05
STATIC = ('/tf_static',)


@dataclass(frozen=True, eq=False)
class CameraPoses:
    """M poses, and what else they could be the poses of (see Capture.mounts)."""

    T_map_cam: Tensor    # [M, 4, 4] float64
    known: Tensor        # [M] bool
    mounts: dict[str, Tensor] = field(default_factory=dict)


def camera_poses(recording: Recording, choice: Choice, stamps_s: Tensor, camera_frame: str) -> CameraPoses:
    """At the stamps [M]: the first of the topic that capture.yaml names, a TUM file, a pose topic, TF below `map`,
    odometry, TF.
    """
    if choice.pose_topic:
        topic = recording.named(choice.pose_topic, (*POSES, ODOMETRY), 'pose topic')
        return _from_topic(recording, topic, choice, stamps_s, camera_frame)
    file = _tum_file(recording.path)
    if file:
        poses = CameraPoses(*read_tum_trajectory(file).at(stamps_s, MAX_GAP_S))
        return _of_body(recording, str(file), poses, choice.pose_frame or camera_frame, stamps_s, camera_frame)
    poses, odometry = (_trajectories(recording, types, len(stamps_s)) for types in (POSES, (ODOMETRY,)))
    if poses:
        topic = recording.only(poses, 'topics with poses', key_in_file('pose_topic'))
        return _from_topic(recording, topic, choice, stamps_s, camera_frame)
    tree = read_tf(recording)
    *_, root = tree.ancestors(camera_frame)
    if tree.moves('map', camera_frame):
        return _of_tf(recording, tree, 'map', camera_frame, stamps_s)
    if odometry:
        topic = recording.only(odometry, 'topics with odometry', key_in_file('pose_topic'))
        return _from_topic(recording, topic, choice, stamps_s, camera_frame)
    if tree.moves(root, camera_frame):
        return _of_tf(recording, tree, root, camera_frame, stamps_s)
    raise NoPoses(f'{recording.path}: no poses: record a PoseStamped, PoseWithCovarianceStamped or Odometry topic, or '
                  f'/tf that moves {camera_frame or "the frame_id of the images (which is empty)"}, or write {tum_files(recording.path)[0]} '
                  f'("stamp tx ty tz qx qy qz qw"), or find them from the images: aprloc pose {recording.path} --out CAPTURE')


def tum_files(bag: Path) -> list[Path]:
    """Where a TUM trajectory of the camera may lie: in a bag's folder, or beside the bag under its name."""
    folder = bag if bag.is_dir() else bag.parent
    inside = visible(bag, '*.tum') if bag.is_dir() else []
    beside = [bag.with_name(bag.stem + '.tum'), bag.with_name(bag.stem + '.txt')]
    return [folder / 'groundtruth.txt', *inside, *beside]


def _tum_file(bag: Path) -> Path | None:
    """AprlocError where there are several, of which none is called the truth."""
    found = [file for file in tum_files(bag) if file.is_file()]
    if len(found) > 1 and found[0] != tum_files(bag)[0]:
        raise AprlocError(f'{bag}: {len(found)} trajectories ({", ".join(map(str, found))}): call that of this drive {tum_files(bag)[0].name}, '
                          'or move the others away')
    return found[0] if found else None


def _trajectories(recording: Recording, types: tuple[str, ...], images: int) -> list[str]:
    return [topic for topic, count in recording.counts(*types).items() if count >= max(2, MIN_POSE_SHARE * images)]


def _of_tf(recording: Recording, tree: TfTree, root: str, camera_frame: str, stamps_s: Tensor) -> CameraPoses:
    recording.note(f'poses from TF, of {camera_frame} in {root}')
    return CameraPoses(*tree.lookup(root, camera_frame, stamps_s, MAX_GAP_S))


def _from_topic(recording: Recording, topic: str, choice: Choice, stamps_s: Tensor, camera_frame: str) -> CameraPoses:
    """A pose is of the camera's optical frame unless child_frame_id or capture.yaml names another one."""
    trajectory, child = read_topic(recording, topic)
    body = choice.pose_frame or child
    if not body and topic in recording.counts(ODOMETRY):
        _ask_whose(recording, topic, camera_frame)
    found = CameraPoses(*trajectory.at(stamps_s, MAX_GAP_S))
    return _of_body(recording, topic, found, body or camera_frame, stamps_s, camera_frame)


def _ask_whose(recording: Recording, topic: str, camera_frame: str):
    """Odometry is of the robot's body nearly always: where there is one, nobody may guess."""
    carriers = _carriers(read_tf(recording, STATIC), camera_frame)
    if carriers:
        raise AprlocError(f'{recording.path}: {topic} does not say whose pose it gives (child_frame_id is empty): write '
                          f'"pose_frame: {carriers[0]}" into capture.yaml beside the bag, or "pose_frame: {camera_frame}" '
                          f'if it is the camera\'s')


def _of_body(recording: Recording, source: str, poses: CameraPoses, body: str, stamps_s: Tensor,
             camera_frame: str) -> CameraPoses:
    """The camera's poses from those of the body that carries it."""
    if body == camera_frame:
        mounts = _mounts(read_tf(recording, STATIC), body, camera_frame)
        recording.note(f'poses from {source}, taken as those of the camera' + (f' ({camera_frame})' if camera_frame else ''))
        return CameraPoses(poses.T_map_cam, poses.known, mounts)
    recording.note(f'poses from {source}, of {body}')
    tree = read_tf(recording)
    if not camera_frame:
        raise AprlocError(f'{recording.path}: {source} gives the pose of {body}, but the images do not say in which frame they were '
                          f'taken (their frame_id is empty): set it in the camera driver')
    if not tree.connects(body, camera_frame):
        raise AprlocError(f'{recording.path}: {source} gives the pose of {body}, but no /tf_static leads from there to the '
                          f'image frame {camera_frame!r}; record /tf_static, or write pose_frame into capture.yaml')
    T_body_cam, mounted = tree.lookup(body, camera_frame, stamps_s, MAX_GAP_S)
    return CameraPoses(poses.T_map_cam @ T_body_cam, poses.known & mounted, _mounts(tree, body, camera_frame))


def _carriers(tree: TfTree, camera_frame: str) -> list[str]:
    """Frames that /tf_static links with the camera, those first that poses are usually given of."""
    carrier = _carrier(tree, camera_frame)
    linked = {frame for frame in tree.frames() if _carrier(tree, frame) == carrier} if carrier else set()
    first = ('base_link', 'base_footprint', carrier)
    return sorted(linked - {camera_frame}, key=lambda frame: (first.index(frame) if frame in first else len(first), frame))


def _carrier(tree: TfTree, frame: str) -> str:
    """The highest frame that does not move against it; empty where the transforms of a frame contradict one another."""
    try:
        return next(above for above in tree.ancestors(frame) if above not in tree.static)
    except AprlocError:
        return ''


def _mounts(tree: TfTree, body: str, camera_frame: str) -> dict[str, Tensor]:
    """Empty where the transforms are broken: no pose depends on these."""
    at = torch.zeros(1, dtype=torch.float64)   # of a static transform any time will do
    try:
        frames = [camera_frame, *_carriers(tree, camera_frame)]
        if body not in frames:
            return {}
        T_frame_cam = {frame: tree.lookup(frame, camera_frame, at, MAX_GAP_S)[0][0] for frame in frames}
    except AprlocError:
        return {}
    mounts = {f'as those of {frame} with the extrinsics of /tf_static: write "pose_frame: {frame}" into capture.yaml':
              invert(T_frame_cam[body]) @ T_frame_cam[frame] for frame in frames if frame != body}
    turned = invert(T_frame_cam[body]) @ invert(T_frame_cam[body])
    exchanged = {f'with the extrinsics of /tf_static the other way round, from {camera_frame} to {body}: exchange parent and child '
                 f'where they are published': turned} if body != camera_frame else {}
    return {**mounts, **exchanged}
