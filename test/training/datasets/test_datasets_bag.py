"""Bags of ROS 2 (mcap, sqlite3) and ROS 1, written by rosbags."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_fixtures import HEIGHT, WIDTH, make_scene, picture, pixels, quaternion, refused

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets import read_capture

pytest.importorskip('rosbags')
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from aprloc_ros.recordings.bag_images import choose_topics, read_images
from aprloc_ros.recordings.recording import open_recording

COUNT = 24
START = 1_700_000_000
PERIOD_NS = 40_000_000
K = [30.0, 0, 15.4, 0, 31.0, 11.2, 0, 0, 1]
D = [0.05, -0.02, 0.003, -0.002, 0.01]
# The camera on the robot, and where odometry's frame lies in the map.
T_BASE_CAM = np.array([[0, 0, 1, 0.2], [-1, 0, 0, 0.1], [0, -1, 0, 0.5], [0, 0, 0, 1.0]])
T_MAP_ODOM = np.array([[0, -1, 0, 2.0], [1, 0, 0, -1], [0, 0, 1, 0.3], [0, 0, 0, 1.0]])


class BagWriter:
    """Messages of one small drive; each method adds one kind."""

    def __init__(self, path, ros1: bool = False, plugin=rosbag2.StoragePlugin.MCAP):
        self.ros1 = ros1
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_KILTED)
        if ros1:
            self.store.register(get_types_from_msg(
                'geometry_msgs/TransformStamped[] transforms', 'tf2_msgs/msg/TFMessage'))
        self.writer = rosbag1.Writer(path) if ros1 else rosbag2.Writer(path, version=9, storage_plugin=plugin)
        self.connections = {}
        self.scene = make_scene(COUNT)

    def __enter__(self):
        self.writer.open()
        return self

    def __exit__(self, *_):
        self.writer.close()

    def make(self, kind: str, *values, **named):
        if self.ros1 and kind == 'std_msgs/msg/Header':
            values = (0, *values)
        return self.store.types[kind](*values, **named)

    def write(self, topic: str, message, stamp_ns: int):
        kind = message.__msgtype__
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.store)
        serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        self.writer.write(self.connections[topic], stamp_ns, bytes(serialize(message, kind)))

    def header(self, stamp_ns: int, frame: str):
        stamp = self.make('builtin_interfaces/msg/Time', stamp_ns // 10**9, stamp_ns % 10**9)
        return self.make('std_msgs/msg/Header', stamp, frame)

    def images(self, topic: str = '/cam/image_raw', encoding: str = 'rgb8', frame: str = 'cam_optical',
               content=lambda index: np.ascontiguousarray(picture(index)), depth_of: int = 3, clock=lambda ns: ns):
        for index in range(COUNT):
            data = content(index)
            ns = clock(stamp(index))
            message = self.make('sensor_msgs/msg/Image', self.header(ns, frame), HEIGHT, WIDTH, encoding, 0,
                                WIDTH * depth_of, np.frombuffer(data.tobytes(), np.uint8))
            self.write(topic, message, stamp(index))

    def compressed(self, topic: str, suffix: str):
        for index in range(COUNT):
            data = cv2.imencode(suffix, cv2.cvtColor(picture(index), cv2.COLOR_RGB2BGR))[1].ravel()
            message = self.make('sensor_msgs/msg/CompressedImage', self.header(stamp(index), 'cam_optical'),
                                suffix[1:], data)
            self.write(topic, message, stamp(index))

    def info(self, topic: str = '/cam/camera_info', model: str = 'plumb_bob', k=K, d=D, size=(HEIGHT, WIDTH)):
        roi = self.make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
        p = [20.0, 0, 14, 0, 0, 20, 11, 0, 0, 0, 1, 0]
        message = self.make('sensor_msgs/msg/CameraInfo', self.header(stamp(0), 'cam_optical'), *size, model,
                            np.array(d, float), np.array(k, float), np.eye(3).ravel(), np.array(p), 0, 0, roi)
        self.write(topic, message, stamp(0))

    def parts(self, T, position: str):
        w, x, y, z = map(float, quaternion(T[:3, :3]))
        return (self.make(f'geometry_msgs/msg/{position}', *map(float, T[:3, 3])),
                self.make('geometry_msgs/msg/Quaternion', x, y, z, w))

    def poses(self, topic: str, kind: str, T=lambda T_map_cam: T_map_cam, child: str = '', indices=range(COUNT)):
        for index in indices:
            pose = self.make('geometry_msgs/msg/Pose', *self.parts(T(self.scene.T_world_cam[index]), 'Point'))
            with_covariance = self.make('geometry_msgs/msg/PoseWithCovariance', pose, np.zeros(36))
            header = self.header(stamp(index), 'map')
            if kind == 'PoseStamped':
                message = self.make('geometry_msgs/msg/PoseStamped', header, pose)
            elif kind == 'PoseWithCovarianceStamped':
                message = self.make('geometry_msgs/msg/PoseWithCovarianceStamped', header, with_covariance)
            else:
                zero = self.make('geometry_msgs/msg/Vector3', 0.0, 0.0, 0.0)
                twist = self.make('geometry_msgs/msg/Twist', zero, zero)
                message = self.make('nav_msgs/msg/Odometry', header, child, with_covariance,
                                    self.make('geometry_msgs/msg/TwistWithCovariance', twist, np.zeros(36)))
            self.write(topic, message, stamp(index))

    def transform(self, topic: str, parent: str, child: str, T, ns: int):
        item = self.make('geometry_msgs/msg/TransformStamped', self.header(ns, parent), child,
                         self.make('geometry_msgs/msg/Transform', *self.parts(T, 'Vector3')))
        self.write(topic, self.make('tf2_msgs/msg/TFMessage', [item]), ns)

    def mounting(self):
        self.transform('/tf_static', 'base_link', 'cam_optical', T_BASE_CAM, stamp(0))

    def tf(self):
        """map -> odom -> base_link, both moving, the first one seldom."""
        for index in range(COUNT):
            if index % 5 == 0 or index == COUNT - 1:
                self.transform('/tf', 'map', 'odom', T_MAP_ODOM, stamp(index))
            T_map_base = self.scene.T_world_cam[index] @ np.linalg.inv(T_BASE_CAM)
            self.transform('/tf', 'odom', 'base_link', np.linalg.inv(T_MAP_ODOM) @ T_map_base, stamp(index))


def stamp(index: int) -> int:
    return START * 10**9 + index * PERIOD_NS


def index_of(frame) -> int:
    return round((frame.stamp_s - START) * 1e9 / PERIOD_NS)


def base(T_map_cam):
    return T_map_cam @ np.linalg.inv(T_BASE_CAM)


def check(path, tmp_path, exact_pictures: bool = True, count: int = COUNT):
    """All frames where the plumb-bob formula puts them."""
    capture = read_capture(path, tmp_path / 'cache')
    scene = make_scene(COUNT)
    frames = capture.train + capture.test
    assert capture.format == 'bag' and len(frames) > 0.6 * count
    for frame in frames:
        T = scene.T_cam_world[index_of(frame)]
        in_camera = scene.points @ T[:3, :3].T + T[:3, 3]
        x, y = (in_camera[:, :2] / in_camera[:, 2:]).T
        r2 = x * x + y * y
        radial = 1 + D[0] * r2 + D[1] * r2**2 + D[4] * r2**3
        u = x * radial + 2 * D[2] * x * y + D[3] * (r2 + 2 * x * x)
        v = y * radial + 2 * D[3] * x * y + D[2] * (r2 + 2 * y * y)
        np.testing.assert_allclose(
            pixels(frame, scene.points), np.stack([30 * u + 15.4, 31 * v + 11.2], -1), atol=1e-4)
        if exact_pictures:
            np.testing.assert_array_equal(frame.read_image(), picture(index_of(frame)))
    return capture


@pytest.mark.parametrize('plugin', [rosbag2.StoragePlugin.MCAP, rosbag2.StoragePlugin.SQLITE3])
@pytest.mark.parametrize('kind', ['PoseStamped', 'PoseWithCovarianceStamped', 'Odometry'])
def test_pose_topic_of_the_camera(tmp_path, plugin, kind):
    with BagWriter(tmp_path / 'drive', plugin=plugin) as bag:
        bag.images()
        bag.info()
        bag.poses('/pose', kind, child='cam_optical')
    check(tmp_path / 'drive', tmp_path)


def test_ros1_bag_and_its_folder(tmp_path):
    (tmp_path / 'recorded').mkdir()
    with BagWriter(tmp_path / 'recorded' / 'drive.bag', ros1=True) as bag:
        bag.images()
        bag.transform('/tf_static', '/base_link', '/cam_optical', T_BASE_CAM, stamp(0))
        bag.info()
        bag.poses('/odom', 'Odometry', base, 'base_link')
    check(tmp_path / 'recorded' / 'drive.bag', tmp_path)
    check(tmp_path / 'recorded', tmp_path)


def test_mcap_file_alone(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.poses('/pose', 'PoseStamped')
    check(next((tmp_path / 'drive').glob('*.mcap')), tmp_path)


def test_pose_of_the_base_is_chained_through_static_transforms(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.mounting()
        bag.poses('/odom', 'Odometry', base, 'base_link')
    check(tmp_path / 'drive', tmp_path)


def test_capture_yaml_names_the_frame_of_a_pose_topic(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.mounting()
        bag.poses('/base_pose', 'PoseStamped', base)
        bag.poses('/other', 'PoseStamped')
    refused(tmp_path / 'drive', '/base_pose', '/other', 'pose_topic', 'capture.yaml')
    (tmp_path / 'drive' / 'capture.yaml').write_text('pose_topic: /base_pose\npose_frame: base_link\n')
    check(tmp_path / 'drive', tmp_path)
    (tmp_path / 'drive' / 'capture.yaml').write_text('pose_topic: /none\n')
    refused(tmp_path / 'drive', '/none', '/base_pose')
    (tmp_path / 'drive' / 'capture.yaml').write_text('topic: /pose\n')
    refused(tmp_path / 'drive', 'capture.yaml', 'topic', 'pose_frame')


def test_tf_chain_goes_before_odometry(tmp_path):
    """Odometry here is wrong on purpose: TF below `map` is the corrected pose."""
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.mounting()
        bag.tf()
        bag.poses('/odom', 'Odometry', lambda T: np.eye(4), 'base_link')
        bag.poses('/initialpose', 'PoseWithCovarianceStamped', lambda T: np.eye(4), indices=[0])
    check(tmp_path / 'drive', tmp_path)


@pytest.mark.parametrize('place', ['drive/groundtruth.txt', 'drive/slam.tum', 'drive.txt'])
def test_tum_file_beside_the_bag(tmp_path, place):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.poses('/pose', 'PoseStamped', lambda T: np.eye(4))
    lines = []
    for index, T in enumerate(make_scene(COUNT).T_world_cam):
        w, x, y, z = quaternion(T[:3, :3])
        lines.append(f'{stamp(index) / 1e9:.9f} ' + ' '.join(f'{value:.9f}' for value in [*T[:3, 3], x, y, z, w]))
    (tmp_path / place).write_text('\n'.join(lines))
    check(tmp_path / 'drive', tmp_path)
    (tmp_path / 'drive' / 'another.tum').write_text(lines[0])
    if place == 'drive/groundtruth.txt':
        check(tmp_path / 'drive', tmp_path)
    else:
        refused(tmp_path / 'drive', '2 trajectories', 'another.tum', Path(place).name, 'groundtruth.txt', cache_dir=tmp_path)


@pytest.mark.parametrize('suffix, exact', [('.png', True), ('.jpg', False)])
def test_compressed_images_are_kept_as_they_are(tmp_path, suffix, exact):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.compressed('/cam/image_raw/compressed', suffix)
        bag.info()
        bag.info('/other/camera_info', k=[1.0, 0, 1, 0, 1, 1, 0, 0, 1])
        bag.poses('/pose', 'PoseStamped')
    capture = check(tmp_path / 'drive', tmp_path, exact)
    frame = capture.train[3]
    expected = cv2.imencode(suffix, cv2.cvtColor(picture(index_of(frame)), cv2.COLOR_RGB2BGR))[1].tobytes()
    assert frame.image_path.read_bytes() == expected


def test_compressed_images_of_16_bits_are_those_that_a_node_sees(tmp_path):
    """Which takes each by itself to 8 bits, so that a dark one is brighter than among the others."""
    with BagWriter(tmp_path / 'drive') as bag:
        for index in range(COUNT):
            deep = picture(index)[..., ::-1].astype(np.uint16) * (index + 1)
            data = cv2.imencode('.png', deep)[1].ravel()
            bag.write('/cam/image_raw/compressed', bag.make(
                'sensor_msgs/msg/CompressedImage', bag.header(stamp(index), 'cam_optical'), 'rgb16; png compressed bgr16', data), stamp(index))
        bag.info()
        bag.poses('/pose', 'PoseStamped')
    with open_recording(tmp_path / 'drive') as recording:
        seen = {image.stamp_ns: image.pixels() for image in read_images(recording, choose_topics(recording))}
    for frame in check(tmp_path / 'drive', tmp_path, False).train:
        np.testing.assert_array_equal(frame.read_image(), seen[stamp(index_of(frame))])


def grey(index: int) -> np.ndarray:
    return cv2.cvtColor(picture(index), cv2.COLOR_RGB2GRAY)


def flat_yuv(order: str):
    """A uniform picture in packed 4:2:2: luma 100, chroma of a strong red."""
    values = {'u': 90, 'v': 220, 'y': 100}
    return lambda index: np.tile(np.array([values[c] for c in order], np.uint8), HEIGHT * WIDTH // 2)


def mosaic(pattern: str):
    """Uniform orange seen through a Bayer pattern, named by its first two rows."""
    values = {'r': 200, 'g': 100, 'b': 30}
    tile = np.array([values[c] for c in pattern], np.uint8).reshape(2, 2)
    return lambda index: np.tile(tile, (HEIGHT // 2, WIDTH // 2))


@pytest.mark.parametrize('encoding, channels, content, expected', [
    ('bgr8', 3, lambda i: picture(i)[..., ::-1], picture), ('BGR8', 3, lambda i: picture(i)[..., ::-1], picture),
    ('8UC3', 3, lambda i: picture(i)[..., ::-1], picture), ('8UC1', 1, grey, lambda i: np.repeat(grey(i)[..., None], 3, -1)),
    ('rgb16', 6, lambda i: picture(i).astype(np.uint16) * 257, picture),
    ('mono16', 2, lambda i: grey(i).astype(np.uint16) * 257, lambda i: np.repeat(grey(i)[..., None], 3, -1)),
    ('nv12', 1, lambda i: np.vstack([np.full((HEIGHT, WIDTH), 100), np.tile([90, 220], (HEIGHT // 2, WIDTH // 2))]).astype(np.uint8),
     lambda i: yuv_red()),
    ('rgba8', 4, lambda i: np.dstack([picture(i), grey(i)]), picture),
    ('bgra8', 4, lambda i: np.dstack([picture(i)[..., ::-1], grey(i)]), picture),
    ('mono8', 1, grey, lambda i: np.repeat(grey(i)[..., None], 3, -1)),
    ('yuv422', 2, flat_yuv('uyvy'), lambda i: yuv_red()),
    ('yuv422_yuy2', 2, flat_yuv('yuyv'), lambda i: yuv_red()),
    *[(f'bayer_{p}8', 1, mosaic(p), lambda i: orange()) for p in ('rggb', 'bggr', 'gbrg', 'grbg')],
])
def test_raw_encodings(tmp_path, encoding, channels, content, expected):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images(encoding=encoding, content=lambda i: np.ascontiguousarray(content(i)), depth_of=channels)
        bag.info()
        bag.poses('/pose', 'PoseStamped')
    for frame in read_capture(tmp_path / 'drive', tmp_path / 'cache').train[:2]:
        difference = frame.read_image()[2:-2, 2:-2].astype(int) - expected(index_of(frame))[2:-2, 2:-2]
        assert np.abs(difference).max() <= (3 if encoding.startswith(('yuv', 'nv')) else 0)


def orange() -> np.ndarray:
    return np.tile(np.array([200, 100, 30], np.uint8), (HEIGHT, WIDTH, 1))


def yuv_red() -> np.ndarray:
    """ITU-R BT.601 of luma 100, chroma 90 and 220."""
    luma, u, v = 1.164 * (100 - 16), 90 - 128, 220 - 128
    rgb = [luma + 1.596 * v, luma - 0.813 * v - 0.391 * u, luma + 2.018 * u]
    return np.tile(np.clip(np.round(rgb), 0, 255).astype(np.uint8), (HEIGHT, WIDTH, 1))


def test_rectified_images_take_the_projection_matrix(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images('/cam/image_rect_color')
        bag.info()
        bag.poses('/pose', 'PoseStamped')
    camera = read_capture(tmp_path / 'drive', tmp_path / 'cache').train[0].camera
    assert (camera.model, camera.fx, camera.cx, camera.distortion) == ('pinhole', 20, 14, ())


def test_depth_topic_is_not_mistaken_for_the_image(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.images('/depth/image_raw', '16UC1', content=lambda i: np.zeros((HEIGHT, WIDTH), np.uint16), depth_of=2)
        bag.info()
        bag.poses('/pose', 'PoseStamped')
    check(tmp_path / 'drive', tmp_path)


def test_images_are_extracted_once_and_renewed_with_the_bag(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.poses('/pose', 'PoseStamped')
    first = check(tmp_path / 'drive', tmp_path).train[0].image_path
    written = first.stat().st_mtime_ns
    assert check(tmp_path / 'drive', tmp_path).train[0].image_path == first
    assert first.stat().st_mtime_ns == written
    file = next((tmp_path / 'drive').glob('*.mcap'))
    file.touch()
    assert check(tmp_path / 'drive', tmp_path).train[0].image_path != first


def drive(**changes):
    """A bag with some of its parts replaced by other calls (None leaves a part out)."""
    parts = {'images': lambda bag: bag.images(), 'info': lambda bag: bag.info(),
             'poses': lambda bag: bag.poses('/pose', 'PoseStamped'), **changes}

    def write(path):
        with BagWriter(path) as bag:
            for part in filter(None, parts.values()):
                part(bag)
    return write


@pytest.mark.parametrize('write, parts', [
    (drive(images=None), ('no topics with colour images',)),
    (drive(info=None), ('no camera_info topic',)),
    (drive(poses=None), ('no poses', 'groundtruth.txt', 'PoseStamped')),
    (drive(more=lambda bag: bag.images('/rear/image_raw')), ('/cam/image_raw', '/rear/image_raw', 'image_topic')),
    (drive(images=lambda bag: bag.images(clock=lambda ns: ns - 10**12)), ('none of the 24 images', 'clock')),
    (drive(images=lambda bag: bag.images(clock=lambda ns: 0)), ('24 of 24 images', 'message 0', 'the stamp is zero', '5%')),
    (drive(images=lambda bag: bag.images(content=lambda i: picture(i)[:5])), ('image_raw, message 0', 'truncated')),
    (drive(images=lambda bag: bag.images(encoding='yuv411')), ("'yuv411'", 'rgb8')),
    (drive(info=lambda bag: bag.info(size=(480, 640), k=[600.0, 0, 320, 0, 600, 240, 0, 0, 1])), ('32x24', '640x480')),
    (drive(info=lambda bag: bag.info(model='double_sphere')), ("'double_sphere'", 'plumb_bob')),
    (drive(info=lambda bag: bag.info(k=[0.0] * 9)), ('24 for camera_info', 'image_raw, message 0', 'calibrated')),
    (drive(poses=lambda bag: bag.poses('/pose', 'PoseStamped', lambda T: T * np.nan)), ('/pose, message 0',)),
    (drive(poses=lambda bag: bag.poses('/odom', 'Odometry', base, 'base_link')), ('base_link', '/tf_static')),
])
def test_broken_bag_is_refused(tmp_path, write, parts):
    write(tmp_path / 'drive')
    refused(tmp_path / 'drive', 'drive', *parts, cache_dir=tmp_path / 'cache')


def test_damaged_files_are_refused(tmp_path):
    drive()(tmp_path / 'drive')
    file = next((tmp_path / 'drive').glob('*.mcap'))
    content = file.read_bytes()
    for length in (0, 10, len(content) // 2):
        file.write_bytes(content[:length])
        refused(tmp_path / 'drive', 'drive', 'not a readable bag', cache_dir=tmp_path / 'cache')
    (tmp_path / 'drive' / 'metadata.yaml').write_text('rosbag2_bagfile_information: 3')
    refused(tmp_path / 'drive', 'not a readable bag', cache_dir=tmp_path / 'cache')
    (tmp_path / 'other.bag').write_bytes(b'#ROSBAG V2.0\nnothing')
    refused(tmp_path / 'other.bag', 'other.bag', 'not a readable bag', cache_dir=tmp_path / 'cache')


def test_odometry_that_does_not_say_whose_pose_it_gives_is_asked_about(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.mounting()
        bag.poses('/odom', 'Odometry', base)
    refused(tmp_path / 'drive', '/odom does not say whose pose', '"pose_frame: base_link"', '"pose_frame: cam_optical"',
            'capture.yaml')
    choice = tmp_path / 'drive' / 'capture.yaml'
    choice.write_text('pose_frame: base_link\n')
    check(tmp_path / 'drive', tmp_path)
    choice.write_text('pose_frame: cam_optical\n')
    frame = read_capture(tmp_path / 'drive', tmp_path / 'cache').train[0]
    np.testing.assert_allclose(frame.T_map_cam, base(make_scene(COUNT).T_world_cam[index_of(frame)]), atol=1e-9)


def test_odometry_of_nobody_is_the_cameras_where_nothing_carries_it(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.poses('/odom', 'Odometry')
    check(tmp_path / 'drive', tmp_path)


def test_poses_may_be_mistaken_for_those_of_what_carries_the_camera(tmp_path):
    """What each bag's poses would be, were they of the other frame: the camera's own, and those of the base."""
    for name, pose, choice, other in (('camera', lambda T: T, '', 'base_link'),
                                      ('base', base, 'pose_frame: base_link\n', 'cam_optical')):
        with BagWriter(tmp_path / name) as bag:
            bag.images()
            bag.info()
            bag.mounting()
            bag.poses('/pose', 'PoseStamped', pose)
        (tmp_path / name / 'capture.yaml').write_text(choice)
        capture = check(tmp_path / name, tmp_path)
        (text, mount), *more = capture.mounts.items()
        assert f'pose_frame: {other}' in text and len(more) == (name == 'base')
        np.testing.assert_allclose(mount, T_BASE_CAM if name == 'camera' else np.linalg.inv(T_BASE_CAM), atol=1e-9)


def test_a_mount_that_was_published_the_other_way_round_is_a_suspect(tmp_path):
    """What it says of the poses puts them where they were."""
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.transform('/tf_static', 'base_link', 'cam_optical', np.linalg.inv(T_BASE_CAM), stamp(0))
        bag.poses('/odom', 'Odometry', base, child='base_link')
    capture = read_capture(tmp_path / 'drive', tmp_path / 'cache')
    mount, = (mount for text, mount in capture.mounts.items() if 'the other way round, from cam_optical to base_link' in text)
    for frame in capture.train:
        truth = make_scene(COUNT).T_world_cam[index_of(frame)]
        assert not np.allclose(frame.T_map_cam, truth, atol=0.1)
        np.testing.assert_allclose(frame.T_map_cam @ mount, truth, atol=1e-9)


def test_broken_transforms_that_no_pose_needs_do_no_harm(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.transform('/tf_static', 'base_link', 'lidar', T_BASE_CAM, stamp(0))
        bag.transform('/tf_static', 'mast', 'lidar', T_BASE_CAM, stamp(0))
        bag.poses('/pose', 'PoseStamped')
    assert check(tmp_path / 'drive', tmp_path).mounts == {}


def test_a_tum_file_may_be_of_the_body(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.mounting()
    lines = []
    for index, T in enumerate(make_scene(COUNT).T_world_cam):
        w, x, y, z = quaternion(base(T)[:3, :3])
        lines.append(f'{stamp(index) / 1e9:.9f} ' + ' '.join(f'{value:.9f}' for value in [*base(T)[:3, 3], x, y, z, w]))
    (tmp_path / 'drive' / 'slam.tum').write_text('\n'.join(lines))
    for frame in ('base_link', '/base_link'):
        (tmp_path / 'drive' / 'capture.yaml').write_text(f'pose_frame: {frame}\n')
        check(tmp_path / 'drive', tmp_path)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def overwrite(file):
    """Damage in the middle of a file whose ends are whole."""
    content = file.read_bytes()
    file.write_bytes(content[:200] + bytes(len(content) - 400) + content[-200:])


@pytest.mark.parametrize('damage, advice', [
    (lambda folder: cut(next(folder.glob('*.mcap'))), 'mcap recover {0}/drive.mcap -o {0}/recovered.mcap'),
    (lambda folder: overwrite(next(folder.glob('*.mcap'))), 'mcap recover {0}/drive.mcap -o {0}/recovered.mcap'),
    (lambda folder: (folder / 'metadata.yaml').write_text('{'), 'ros2 bag reindex {0}'),
    (lambda folder: (folder / 'metadata.yaml').write_text('rosbag2_bagfile_information: 3'), 'ros2 bag reindex {0}'),
    (lambda folder: next(folder.glob('*.mcap')).rename(folder / 'other.mcap'), 'ros2 bag reindex {0}'),
])
def test_a_damaged_mcap_bag_is_mended_by_what_its_format_has(tmp_path, damage, advice):
    drive()(tmp_path / 'drive')
    damage(tmp_path / 'drive')
    said_by_every_reader(tmp_path / 'drive', advice.format(tmp_path / 'drive'), tmp_path)


def test_a_damaged_sqlite_bag_is_mended_by_ros2(tmp_path):
    with BagWriter(tmp_path / 'drive', plugin=rosbag2.StoragePlugin.SQLITE3) as bag:
        bag.images()
    overwrite(next((tmp_path / 'drive').glob('*.db3')))
    said_by_every_reader(tmp_path / 'drive', f'ros2 bag reindex {tmp_path / "drive"}', tmp_path)


def test_a_damaged_ros1_bag_is_mended_by_rosbag(tmp_path):
    file = tmp_path / 'drive.bag'
    with BagWriter(file, ros1=True) as bag:
        bag.images()
    cut(file)
    said_by_every_reader(file, f'rosbag reindex {file}', tmp_path)


def test_a_ros1_recording_that_never_ended_is_mended_by_rosbag(tmp_path):
    with BagWriter(tmp_path / 'drive.bag', ros1=True) as bag:
        bag.images()
    file = (tmp_path / 'drive.bag').rename(tmp_path / 'drive.bag.active')
    for path in (file, tmp_path):
        said_by_every_reader(path, f'rosbag reindex {file} && mv {file} {tmp_path / "drive.bag"}', tmp_path)


def test_parts_of_a_recording_without_metadata_are_joined_by_ros2(tmp_path):
    drive()(tmp_path / 'drive')
    file = next((tmp_path / 'drive').glob('*.mcap'))
    (tmp_path / 'drive' / 'metadata.yaml').unlink()
    file.with_name('drive_1.mcap').write_bytes(file.read_bytes())
    said_by_every_reader(tmp_path / 'drive', f'ros2 bag reindex {tmp_path / "drive"}', tmp_path)


def test_images_that_name_no_frame_are_told_where_a_transform_needs_it(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images(frame='')
        bag.info()
        bag.mounting()
        bag.tf()
    refused(tmp_path / 'drive', 'no poses', 'the frame_id of the images (which is empty)', cache_dir=tmp_path)
    with BagWriter(tmp_path / 'other') as bag:
        bag.images(frame='')
        bag.info()
        bag.mounting()
        bag.poses('/odom', 'Odometry', base, 'base_link')
    refused(tmp_path / 'other', 'base_link', 'frame_id is empty', cache_dir=tmp_path)


def said_by_every_reader(bag, advice: str, tmp_path):
    refused(bag, 'not a readable bag', f'try "{advice}"', cache_dir=tmp_path / 'cache')
    with pytest.raises(AprlocError) as caught, open_recording(bag) as recording:
        for topic in recording.reader.topics:
            list(recording.messages(topic))
    assert f'try "{advice}"' in str(caught.value) and '\n' not in str(caught.value)


def test_what_macos_leaves_beside_a_bag_is_no_bag(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.poses('/pose', 'PoseStamped')
    folder = tmp_path / 'drive'
    (folder / 'metadata.yaml').unlink()
    first = check(folder, tmp_path).train[0].image_path
    for name in ('._drive.mcap', '._slam.tum', '.DS_Store'):
        (folder / name).write_bytes(b'\0')
    assert check(folder, tmp_path).train[0].image_path == first   # nor are the images extracted anew
    with open_recording(folder) as recording:
        assert recording.counts('sensor_msgs/msg/Image')


def test_images_without_pose_are_counted(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.images()
        bag.info()
        bag.poses('/pose', 'PoseStamped', indices=range(4, COUNT))
    notes = read_capture(tmp_path / 'drive', tmp_path / 'cache').notes
    assert notes[0] == 'poses from /pose, taken as those of the camera (cam_optical)'   # unsaid by the messages
    assert notes[1].startswith(f'4 of {COUNT} images of /cam/image_raw have no pose')
