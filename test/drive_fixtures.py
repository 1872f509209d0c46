"""Bags of a smooth drive, in every form that a robot records: ROS 2 (mcap, sqlite3) and ROS 1, written by rosbags."""

import cv2
import numpy as np
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation
from tiny_map import CAMERA

from aprloc_ros.camera import Camera

COUNT = 10
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
FRAME = 'camera_optical'
# The camera looks along the robot's x axis, from its mast.
T_BASE_CAM = np.array([[0, 0, 1, 0.2], [-1, 0, 0, 0.1], [0, -1, 0, 0.5], [0, 0, 0, 1.0]])
T_MAP_ODOM = np.array([[0, -1, 0, 2.0], [1, 0, 0, -1], [0, 0, 1, 0.3], [0, 0, 0, 1.0]])
MCAP, SQLITE3 = rosbag2.StoragePlugin.MCAP, rosbag2.StoragePlugin.SQLITE3


def stamp(index):
    return START_NS + round(index * PERIOD_NS)


def base_pose(time_ns):
    """T_map_base of a robot that drives and turns evenly, so that interpolation is exact."""
    t = (time_ns - START_NS) / 1e9
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0, 0, 0.8 * t]).as_matrix()
    T[:3, 3] = 1 + 0.7 * t, 2 - 0.4 * t, 0.1
    return T


def camera_pose(time_ns):
    return base_pose(time_ns) @ T_BASE_CAM


def even_camera_pose(time_ns):
    """T_map_cam that itself moves evenly: of a truth that is recorded for the camera."""
    T = base_pose(time_ns)
    T[:3, :3] = T[:3, :3] @ T_BASE_CAM[:3, :3]
    return T


def picture(index, camera: Camera = CAMERA):
    """[H, W, 3] uint8 RGB, smooth, so that JPEG keeps it."""
    coarse = np.random.default_rng(index).integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(coarse, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC)


class DriveBag:
    """Messages of the drive; each method adds one kind, at the stamps of the images unless others are given."""

    def __init__(self, path, storage=MCAP):
        """storage: MCAP, SQLITE3 or None for ROS 1."""
        self.ros1 = storage is None
        self.store = get_typestore(Stores.ROS1_NOETIC if self.ros1 else Stores.ROS2_KILTED)
        if self.ros1:
            self.store.register(get_types_from_msg(
                'geometry_msgs/TransformStamped[] transforms', 'tf2_msgs/msg/TFMessage'))
        self.writer = rosbag1.Writer(path) if self.ros1 else rosbag2.Writer(path, version=9, storage_plugin=storage)
        self.connections = {}

    def __enter__(self):
        self.writer.open()
        return self

    def __exit__(self, *_):
        self.writer.close()

    def make(self, kind, *values):
        if self.ros1 and kind == 'std_msgs/msg/Header':
            values = (0, *values)
        return self.store.types[kind](*values)

    def write(self, topic, message, time_ns):
        kind = message.__msgtype__
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.store)
        serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        self.writer.write(self.connections[topic], time_ns, bytes(serialize(message, kind)))

    def header(self, time_ns, frame):
        time = self.make('builtin_interfaces/msg/Time', *divmod(time_ns, 10**9))
        return self.make('std_msgs/msg/Header', time, frame)

    def image(self, time_ns, pixels, topic='/camera/image_raw', encoding='rgb8', recorded_ns=None, frame=FRAME):
        """pixels [H, W, C] uint8 as the encoding wants them."""
        height, width = pixels.shape[:2]
        message = self.make('sensor_msgs/msg/Image', self.header(time_ns, frame), height, width, encoding, 0,
                            pixels.nbytes // height, np.frombuffer(pixels.tobytes(), np.uint8))
        self.write(topic, message, recorded_ns or time_ns)

    def images(self, topic='/camera/image_raw', camera=CAMERA, frame=FRAME, count=COUNT):
        for index in range(count):
            self.image(stamp(index), picture(index, camera), topic, frame=frame)

    def compressed(self, topic='/camera/image_raw/compressed', suffix='.png', count=COUNT):
        for index in range(count):
            data = cv2.imencode(suffix, picture(index)[..., ::-1])[1].ravel()
            message = self.make('sensor_msgs/msg/CompressedImage', self.header(stamp(index), FRAME), suffix[1:], data)
            self.write(topic, message, stamp(index))

    def info(self, topic='/camera/camera_info', camera=CAMERA, time_ns=START_NS, model='plumb_bob', recorded_ns=None, frame=FRAME):
        roi = self.make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
        k = camera.matrix
        message = self.make('sensor_msgs/msg/CameraInfo', self.header(time_ns, frame), camera.height, camera.width,
                            model, np.array(camera.distortion or (0.0,) * 5), k.ravel(), np.eye(3).ravel(),
                            np.hstack([k, np.zeros((3, 1))]).ravel(), 0, 0, roi)
        self.write(topic, message, recorded_ns or time_ns)

    def parts(self, T, position):
        x, y, z, w = map(float, Rotation.from_matrix(T[:3, :3]).as_quat())
        return (self.make(f'geometry_msgs/msg/{position}', *map(float, T[:3, 3])),
                self.make('geometry_msgs/msg/Quaternion', x, y, z, w))

    def pose(self, topic, time_ns, T, kind='PoseStamped', frame='map', child=''):
        """kind: PoseStamped, PoseWithCovarianceStamped or Odometry."""
        pose = self.make('geometry_msgs/msg/Pose', *self.parts(T, 'Point'))
        full = self.make('geometry_msgs/msg/PoseWithCovariance', pose, np.zeros(36))
        header = self.header(time_ns, frame)
        if kind == 'Odometry':
            zero = self.make('geometry_msgs/msg/Vector3', 0.0, 0.0, 0.0)
            twist = self.make('geometry_msgs/msg/Twist', zero, zero)
            message = self.make('nav_msgs/msg/Odometry', header, child, full,
                                self.make('geometry_msgs/msg/TwistWithCovariance', twist, np.zeros(36)))
        else:
            message = self.make(f'geometry_msgs/msg/{kind}', header, pose if kind == 'PoseStamped' else full)
        self.write(topic, message, time_ns)

    def transform(self, topic, parent, child, T, time_ns):
        item = self.make('geometry_msgs/msg/TransformStamped', self.header(time_ns, parent), child,
                         self.make('geometry_msgs/msg/Transform', *self.parts(T, 'Vector3')))
        self.write(topic, self.make('tf2_msgs/msg/TFMessage', [item]), time_ns)

    def mounting(self):
        self.transform('/tf_static', 'base_link', FRAME, T_BASE_CAM, START_NS)

    def tf(self):
        """map -> odom, standing still, and odom -> base_link, moving, both stamped off the images' stamps."""
        for time_ns in truth_stamps():
            self.transform('/tf', 'map', 'odom', T_MAP_ODOM, time_ns)
            self.transform('/tf', 'odom', 'base_link', np.linalg.inv(T_MAP_ODOM) @ base_pose(time_ns), time_ns)


def truth_stamps():
    """Every 40 ms, from before the first image to after the last, none of them the stamp of an image."""
    return [START_NS - 33_000_000 + 40_000_000 * i for i in range(26)]


def write_tum_file(path, T_at):
    lines = [f'{t / 1e9:.9f} {" ".join(map(repr, (*T_at(t)[:3, 3].tolist(), *Rotation.from_matrix(T_at(t)[:3, :3]).as_quat().tolist())))}'
             for t in truth_stamps()]
    path.write_text('# stamp tx ty tz qx qy qz qw\n' + '\n'.join(lines) + '\n')
    return path
