"""Bags that come back as they went in, in the types of a real distribution."""

import os
import shlex

import numpy as np
import pytest
import torch
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import choose_topics, read_images
from aprloc_ros.recordings.bag_messages import header, pose_message
from aprloc_ros.recordings.bags import BagFrame, frame_stamps_ns, new_bag, read_raw, write_bag
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.repair import repair
from aprloc_ros.recordings.truth import read_poses

CAMERA_FIELDS = 37, 23, 30.5, 31.5, 18.25, 11.75, 'opencv'
CAMERA = Camera(*CAMERA_FIELDS, (0.1, -0.2, 0.001, -0.002))
STAMPS_NS = [1_700_000_000_000_000_001, 1_700_000_000_033_333_334, 1_700_000_001_999_999_999]


def bag_frames(camera=CAMERA, stamps_ns=STAMPS_NS):
    rng = np.random.default_rng(0)
    for stamp_ns in stamps_ns:
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
        yield BagFrame(stamp_ns, rng.integers(0, 256, (camera.height, camera.width, 3), np.uint8), camera,
                       torch.from_numpy(T))


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'drive'
    assert write_bag(path, bag_frames()) == 3
    return path


def test_images_and_stamps_come_back_exactly(bag):
    with open_recording(bag) as recording:
        read = list(read_images(recording, choose_topics(recording)))
    assert [image.stamp_ns for image in read] == STAMPS_NS
    for image, frame in zip(read, bag_frames(), strict=True):
        np.testing.assert_array_equal(image.pixels(), frame.image)
        assert image.camera() == Camera(*CAMERA_FIELDS, (*CAMERA.distortion, 0.0))


def test_truth_comes_back(bag):
    poses = read_poses(bag, '/truth')
    assert list(poses) == STAMPS_NS
    for T, frame in zip(poses.values(), bag_frames(), strict=True):
        torch.testing.assert_close(T, frame.T_map_cam, rtol=0, atol=1e-14)


def test_a_second_reader_sees_the_types_of_a_distribution(bag):
    jazzy = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([bag]) as reader:
        types = {connection.topic: (connection.msgtype, connection.digest) for connection in reader.connections}
        infos = [reader.deserialize(data, connection.msgtype) for connection, _, data in reader.messages()
                 if connection.topic == 'camera_info']
    assert types == {topic: (f'{package}/msg/{name}', jazzy.hash_rihs01(f'{package}/msg/{name}'))
                     for topic, package, name in (('image', 'sensor_msgs', 'Image'),
                                                  ('camera_info', 'sensor_msgs', 'CameraInfo'),
                                                  ('truth', 'geometry_msgs', 'PoseStamped'))}
    assert (infos[0].width, infos[0].height, infos[0].distortion_model) == (37, 23, 'plumb_bob')
    np.testing.assert_array_equal(infos[0].d, [*CAMERA.distortion, 0])
    np.testing.assert_array_equal(infos[0].k.reshape(3, 3), CAMERA.matrix)
    assert infos[0].header.frame_id == 'camera_optical_frame'


@pytest.mark.parametrize('camera, name, count', [
    (Camera(9, 7, 5, 5, 4, 3), 'plumb_bob', 5),
    (Camera(9, 7, 5, 5, 4, 3, 'opencv', (0.1,) * 8), 'rational_polynomial', 8),
    (Camera(9, 7, 5, 5, 4, 3, 'fisheye', (0.1,) * 4), 'equidistant', 4)])
def test_camera_models_have_ros_names(tmp_path, camera, name, count):
    write_bag(tmp_path / 'bag', bag_frames(camera, [1]))
    with AnyReader([tmp_path / 'bag']) as reader:
        info = next(reader.deserialize(data, c.msgtype) for c, _, data in reader.messages() if c.topic == 'camera_info')
    assert (info.distortion_model, len(info.d)) == (name, count)


def test_raw_messages_keep_the_pace_and_the_bytes(bag):
    raw = list(read_raw(bag, 'image', 'sensor_msgs/msg/Image'))
    assert [message.time_s for message in raw] == pytest.approx([0, 0.033333333, 1.999999998], abs=1e-9)
    assert [message.stamp_ns for message in raw] == STAMPS_NS
    image = get_typestore(Stores.ROS2_KILTED).deserialize_cdr(raw[1].data, 'sensor_msgs/msg/Image')
    np.testing.assert_array_equal(image.data, list(bag_frames())[1].image.reshape(-1))


def test_stamps_follow_the_capture_or_the_rate():
    assert frame_stamps_ns([1.5, 1.75, 9.0], 10) == [1_500_000_000, 1_750_000_000, 9_000_000_000]
    assert frame_stamps_ns([0.0, 0.5], 10) == [1_000_000_000, 1_500_000_000]       # zero is "unknown" in ROS
    assert frame_stamps_ns([None, None], 4) == [1_000_000_000, 1_250_000_000]
    assert frame_stamps_ns([3.0, 2.0], 4) == [1_000_000_000, 1_250_000_000]        # two sequences, each its own clock
    for foreign in (1.7e18, 1.7e12, -5.0):   # in nanoseconds, in milliseconds, before the beginning
        assert frame_stamps_ns([foreign, foreign + 1000], 4) == [1_000_000_000, 1_250_000_000]
    with pytest.raises(AprlocError, match='rate -1 Hz'):
        frame_stamps_ns([None], -1)


def test_broken_bags_say_so_and_leave_nothing(tmp_path, bag):
    with pytest.raises(AprlocError, match='exists already'):
        write_bag(bag, bag_frames())
    with pytest.raises(AprlocError, match='no frame'):
        write_bag(tmp_path / 'empty', iter(()))
    with pytest.raises(AprlocError, match='does not follow'):
        write_bag(tmp_path / 'backwards', bag_frames(stamps_ns=[5, 5]))
    assert not list(tmp_path.iterdir())
    with pytest.raises(AprlocError, match='no such bag'):
        read_poses(tmp_path / 'nowhere', 'truth')
    (tmp_path / 'dir').mkdir()
    with pytest.raises(AprlocError, match='not a readable bag'):
        read_poses(tmp_path / 'dir', 'truth')
    with pytest.raises(AprlocError, match='no topic of poses odom; it holds .*image'):
        read_poses(bag, 'odom')


def test_what_a_killed_command_left_is_gone_with_the_next(tmp_path):
    def killed():
        yield next(iter(bag_frames()))
        os._exit(9)
    child = os.fork()
    if not child:
        write_bag(tmp_path / 'drive', killed())
    os.waitpid(child, 0)
    assert [path.name for path in tmp_path.iterdir()] == ['.drive.partial']
    write_bag(tmp_path / 'drive', bag_frames())
    assert [path.name for path in tmp_path.iterdir()] == ['drive']


def test_a_truncated_bag_says_so(tmp_path, bag):
    copy = tmp_path / 'drive'
    copy.mkdir()
    for file in bag.iterdir():
        content = file.read_bytes()
        (copy / file.name).write_bytes(content if file.suffix == '.yaml' else content[:len(content) // 2])
    with pytest.raises(AprlocError, match='not a readable bag'):
        read_poses(copy, 'truth')


def test_a_bag_replaces_a_bag_and_nothing_else(tmp_path, bag):
    write_bag(tmp_path / 'old', bag_frames())
    with new_bag(tmp_path / 'old', replaces=True) as writer:
        writer.put('only', 7, pose_message(torch.eye(4, dtype=torch.float64), header(7, 'map')))
    with open_recording(tmp_path / 'old') as recording:
        assert recording.counts('geometry_msgs/msg/PoseStamped') == {'only': 1}
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'notes/mine.txt').write_text('keep')
    with pytest.raises(AprlocError, match='exists already'), new_bag(tmp_path / 'notes', replaces=True):
        pass
    assert (tmp_path / 'notes/mine.txt').is_file()


@pytest.mark.parametrize('last', ['.drive.old', 'drive'])
def test_a_bag_whose_replacement_was_killed_is_there_for_the_next(tmp_path, last):
    """Just after its rename to `last`: the old one waits beside, or what is left of it."""
    write_bag(tmp_path / 'drive', bag_frames())
    child = os.fork()
    if not child:
        rename = os.rename
        os.rename = lambda source, target: (rename(source, target), os._exit(9) if target.name == last else None)
        with new_bag(tmp_path / 'drive', replaces=True) as writer:
            writer.put('only', 7, pose_message(torch.eye(4, dtype=torch.float64), header(7, 'map')))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9 and (tmp_path / '.drive.old').is_dir()
    with pytest.raises(RuntimeError), new_bag(tmp_path / 'drive', replaces=True):
        raise RuntimeError('whatever comes next')
    with open_recording(tmp_path / 'drive') as recording:
        assert ('only' in recording.counts('geometry_msgs/msg/PoseStamped')) == (last == 'drive')
    assert os.listdir(tmp_path) == ['drive']


def test_the_command_that_may_mend_a_bag_can_be_typed_whatever_its_name(tmp_path):
    folder = tmp_path / "my drive; it's mine"
    folder.mkdir()
    (folder / 'a.mcap').write_bytes(b'\x89MCAP0\r\n' + b'half')
    (folder / 'b.bag.active').write_bytes(b'half')
    for bag, words in ((folder / 'a.mcap', ['mcap', 'recover', f'{folder}/a.mcap', '-o', f'{folder}/recovered.mcap']),
                       (folder / 'b.bag.active', ['rosbag', 'reindex', f'{folder}/b.bag.active', '&&', 'mv',
                                                  f'{folder}/b.bag.active', f'{folder}/b.bag'])):
        assert shlex.split(repair(bag)) == words
