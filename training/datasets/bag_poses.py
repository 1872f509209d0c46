"""The camera's pose at the stamps of a bag's images: from a TUM file, a topic or TF."""

from pathlib import Path

from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.tf_tree import TfTree
from aprloc_ros.recordings.trajectory import make_trajectory
from aprloc_ros.training.datasets.bag_topics import BagTopics, stamp_s
from aprloc_ros.training.datasets.choice import Choice
from aprloc_ros.training.datasets.files import visible
from aprloc_ros.training.datasets.parsing import quaternion_pose
from aprloc_ros.training.datasets.trajectory import MAX_GAP_S, read_tum_trajectory

POSES = ('geometry_msgs/msg/PoseStamped', 'geometry_msgs/msg/PoseWithCovarianceStamped')
ODOMETRY = ('nav_msgs/msg/Odometry',)
# A topic with fewer poses than this share of the images is a goal or an initial guess, not a trajectory.
MIN_POSE_SHARE = 0.05


def camera_poses(topics: BagTopics, choice: Choice, stamps_s: Tensor, camera_frame: str) -> tuple[Tensor, Tensor]:
    """T_map_cam [M, 4, 4] at the stamps [M], and whether each is known [M] (bool).

    The first of: the topic that capture.yaml names, a TUM file, a pose topic, TF below `map`, odometry, TF.
    """
    if choice.pose_topic:
        topic = topics.chosen(choice.pose_topic, topics.counts(*POSES, *ODOMETRY), 'pose topic')
        return _from_topic(topics, topic, choice, stamps_s, camera_frame)
    file = _tum_file(topics.bag)
    if file:
        return read_tum_trajectory(file).at(stamps_s, MAX_GAP_S)
    poses, odometry = (_trajectories(topics, types, len(stamps_s)) for types in (POSES, ODOMETRY))
    if poses:
        topic = topics.only(poses, 'pose topic', 'pose_topic')
        return _from_topic(topics, topic, choice, stamps_s, camera_frame)
    tree = _read_tf(topics)
    root = tree.ancestors(camera_frame)[-1]
    if tree.moves('map', camera_frame):
        return tree.lookup('map', camera_frame, stamps_s, MAX_GAP_S)
    if odometry:
        topic = topics.only(odometry, 'odometry topic', 'pose_topic')
        return _from_topic(topics, topic, choice, stamps_s, camera_frame)
    if tree.moves(root, camera_frame):
        return tree.lookup(root, camera_frame, stamps_s, MAX_GAP_S)
    raise AprlocError(f'{topics.bag}: no poses: record a PoseStamped, PoseWithCovarianceStamped or Odometry topic, or '
                      f'/tf that moves {camera_frame!r}, or write {tum_files(topics.bag)[0]} '
                      f'("stamp tx ty tz qx qy qz qw")')


def tum_files(bag: Path) -> list[Path]:
    """Where a TUM trajectory of the camera may lie: in a bag's folder, or beside the bag under its name."""
    folder = bag if bag.is_dir() else bag.parent
    inside = visible(bag, '*.tum') if bag.is_dir() else []
    beside = [bag.with_name(bag.stem + '.tum'), bag.with_name(bag.stem + '.txt')]
    return [folder / 'groundtruth.txt', *inside, *beside]


def _tum_file(bag: Path) -> Path | None:
    return next((file for file in tum_files(bag) if file.is_file()), None)


def _trajectories(topics: BagTopics, types: tuple[str, ...], images: int) -> list[str]:
    return [topic for topic, count in topics.counts(*types).items() if count >= max(2, MIN_POSE_SHARE * images)]


def _from_topic(topics: BagTopics, topic: str, choice: Choice, stamps_s: Tensor, camera_frame: str):
    """A pose is of the camera's optical frame unless child_frame_id or capture.yaml names another one."""
    stamps, poses, body = [], [], choice.pose_frame
    for _, message, where in topics.messages(topic):
        body = body or getattr(message, 'child_frame_id', '').strip('/')
        inner = message.pose if hasattr(message.pose, 'orientation') else message.pose.pose
        stamps.append(stamp_s(message.header))
        q, t = inner.orientation, inner.position
        poses.append(quaternion_pose([q.w, q.x, q.y, q.z], [t.x, t.y, t.z], where))
    T_map_body, known = make_trajectory(stamps, poses).at(stamps_s, MAX_GAP_S)
    if not body or body == camera_frame:
        return T_map_body, known
    tree = _read_tf(topics)
    if not tree.connects(body, camera_frame):
        raise AprlocError(f'{topics.bag}: {topic} gives the pose of {body}, but no /tf_static leads from there to the '
                          f'image frame {camera_frame!r}; record /tf_static, or write pose_frame into capture.yaml')
    T_body_cam, mounted = tree.lookup(body, camera_frame, stamps_s, MAX_GAP_S)
    return T_map_body @ T_body_cam, known & mounted


def _read_tf(topics: BagTopics) -> TfTree:
    tree = TfTree()
    for topic in ('/tf_static', '/tf'):
        for _, message, where in topics.messages(topic):
            tree.add(message, topic == '/tf_static', where)
    return tree
