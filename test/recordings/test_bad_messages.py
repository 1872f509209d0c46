"""Bags with messages that a node skips: build and replay leave a few out and say so once, and refuse many."""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from drive_fixtures import FRAME, T_BASE_CAM, T_MAP_ODOM, DriveBag, base_pose, even_camera_pose, picture, stamp

from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.truth import TruthOptions, find_truth, read_tf
from aprloc_ros.training.datasets import read_capture

COUNT = 40   # two of them may be bad
pytestmark = pytest.mark.usefixtures('undrawn')


def jpeg(index):
    return cv2.imencode('.jpg', picture(index)[..., ::-1])[1].tobytes()


class Drive(DriveBag):
    """Compressed images, camera_info, and the camera's poses, some of them spoilt."""

    def compressed_image(self, index, data=None, stamp_ns=None, frame=FRAME):
        head = self.header(stamp(index) if stamp_ns is None else stamp_ns, frame)
        data = np.frombuffer(jpeg(index) if data is None else data, np.uint8)
        message = self.make('sensor_msgs/msg/CompressedImage', head, 'jpeg', data)
        self.write('/camera/image_raw/compressed', message, stamp(index))

    def posed(self, index, xyz=None, q=None, stamp_ns=None, topic='/pose'):
        point, quaternion = self.parts(even_camera_pose(stamp(index)), 'Point')
        point = point if xyz is None else self.make('geometry_msgs/msg/Point', *xyz)
        quaternion = quaternion if q is None else self.make('geometry_msgs/msg/Quaternion', *q)
        pose = self.make('geometry_msgs/msg/Pose', point, quaternion)
        head = self.header(stamp(index) if stamp_ns is None else stamp_ns, 'map')
        self.write(topic, self.make('geometry_msgs/msg/PoseStamped', head, pose), stamp(index))

    def cut_short(self, index, topic='/pose', count=9):
        """A message of which the recorder kept some bytes."""
        self.writer.write(self.connections[topic], stamp(index), bytes(count))


IMAGES = {   # what is wrong with an image message -> the words for it
    'truncated': (lambda bag, i: bag.compressed_image(i, jpeg(i)[:-300]), 'image', 'ends early'),
    'empty': (lambda bag, i: bag.compressed_image(i, b''), 'image', 'neither JPEG nor PNG'),
    'stamp of zero': (lambda bag, i: bag.compressed_image(i, stamp_ns=0), 'stamp', 'stamp is zero'),
    'doubled stamp': (lambda bag, i: bag.compressed_image(i, stamp_ns=stamp(i - 1)), 'stamp', 'is not after'),
    'going back': (lambda bag, i: bag.compressed_image(i, stamp_ns=stamp(i - 2) + 1), 'stamp', 'is not after'),
}
POSES = {
    'no rotation': (lambda bag, i: bag.posed(i, q=(0.0,) * 4), 'pose', 'quaternion has length 0'),
    'nan': (lambda bag, i: bag.posed(i, xyz=(math.nan, 0.0, 0.0)), 'pose', 'NaN or infinity'),
    'infinite': (lambda bag, i: bag.posed(i, xyz=(0.0, -math.inf, 0.0)), 'pose', 'NaN or infinity'),
    'nan in the rotation': (lambda bag, i: bag.posed(i, q=(0.0, 0.0, 0.0, math.nan)), 'pose', 'quaternion'),
    'stamp of zero': (lambda bag, i: bag.posed(i, stamp_ns=0), 'stamp', 'stamp is zero'),
    'two poses of one stamp': (lambda bag, i: bag.posed(i, stamp_ns=stamp(i - 1)), 'stamp', 'is not after'),
}


def write_drive(path, bad_images=None, bad_poses=None, bad=()):
    with Drive(path) as bag:
        bag.info()
        for index in range(COUNT):
            (bad_images if bad_images and index in bad else Drive.compressed_image)(bag, index)
            (bad_poses if bad_poses and index in bad else Drive.posed)(bag, index)
    return path


def left_out(capture):
    """What is said of bad messages."""
    return [note for note in capture.notes if note.startswith('left out')]


def replay(path, tiny_map, out):
    return main(['replay', str(path), '--map', tiny_map.name, '--map-dir', str(tiny_map.parent), '--out', str(out),
                 '--device', 'cpu'])


FEW, MANY = (0, 7), (5, 8, 11)


@pytest.mark.parametrize('spoil, reason, words', [pytest.param(*IMAGES[name], id=name) for name in IMAGES])
def test_a_few_bad_images_are_left_out_of_a_build_and_many_refused(tmp_path, spoil, reason, words):
    capture = read_capture(write_drive(tmp_path / 'bag', spoil, bad=(4, 7)), tmp_path / 'cache')
    taken = {round((frame.stamp_s - stamp(0) / 1e9) / 0.1) for frame in (*capture.train, *capture.test)}
    assert not taken & {4, 7} and len(taken) > 0.5 * COUNT
    note, = left_out(capture)
    assert note.startswith(f'left out: 2 of {COUNT} images of /camera/image_raw/compressed cannot be used (2 for {reason})')
    assert 'message 4' in note and words in note and '\n' not in note
    with pytest.raises(AprlocError, match=f'3 of {COUNT} images .*3 for {reason}.*message 5.*{words}.* 5%') as caught:
        read_capture(write_drive(tmp_path / 'worse', spoil, bad=MANY), tmp_path / 'cache')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('spoil, reason, words', [
    pytest.param(*IMAGES[name], id=name) for name in ('truncated', 'going back')])
def test_replay_rejects_them_and_refuses_many(tmp_path, tiny_map, capsys, spoil, reason, words):
    assert replay(write_drive(tmp_path / 'bag', spoil, bad=(4, 7)), tiny_map, tmp_path / 'out') == 0
    said = capsys.readouterr().out
    assert f'was rejected for {reason}: ' in said and words in said
    assert replay(write_drive(tmp_path / 'worse', spoil, bad=MANY), tiny_map, tmp_path / 'out') == 1
    error = capsys.readouterr().err
    assert f'3 of {COUNT} images' in error and words in error and error.count('\n') == 1


@pytest.mark.parametrize('spoil, reason, words', [pytest.param(*POSES[name], id=name) for name in POSES])
def test_bad_poses_are_left_out_of_build_and_truth_alike(tmp_path, spoil, reason, words):
    path = write_drive(tmp_path / 'bag', bad_poses=spoil, bad=(4, 7))
    capture = read_capture(path, tmp_path / 'cache')
    said = f'left out: 2 of {COUNT} messages of /pose cannot be used (2 for {reason}), the first: '
    note, = left_out(capture)
    assert note.startswith(said) and '/pose, message 4' in note and words in note
    for frame in (*capture.train, *capture.test):   # between the neighbours, where its own is none
        index = round((frame.stamp_s - stamp(0) / 1e9) / 0.1)
        np.testing.assert_allclose(frame.T_map_cam, even_camera_pose(stamp(index)), atol=1e-6)
    with open_recording(path) as recording:
        find_truth(recording, read_tf(recording), TruthOptions(), 'map', FRAME, COUNT)
        assert recording.notes == [note]
    write_drive(tmp_path / 'worse', bad_poses=spoil, bad=MANY)
    with pytest.raises(AprlocError, match=f'3 of {COUNT} messages of /pose') as refused:
        read_capture(tmp_path / 'worse', tmp_path / 'cache')
    with open_recording(tmp_path / 'worse') as recording, pytest.raises(AprlocError) as too:
        find_truth(recording, read_tf(recording), TruthOptions(), 'map', FRAME, COUNT)
    assert str(too.value) == str(refused.value) and '\n' not in str(too.value)


@pytest.mark.parametrize('topic', ['/pose', '/camera/image_raw/compressed'])
def test_messages_that_cannot_be_decoded_are_left_out_up_to_a_share(tmp_path, tiny_map, capsys, topic):
    def spoil(bag, index):
        bag.cut_short(index, topic)
    kind = {'/pose': 'bad_poses'}.get(topic, 'bad_images')
    path = write_drive(tmp_path / 'bag', **{kind: spoil}, bad=(4, 7))
    capture = read_capture(path, tmp_path / 'cache')
    note, = left_out(capture)
    assert note.startswith(f'left out: 2 of {COUNT} messages of {topic} cannot be used (2 for content), the first: ')
    assert f'{topic}, message 4' in note
    for frame in (*capture.train, *capture.test):
        index = round((frame.stamp_s - stamp(0) / 1e9) / 0.1)
        np.testing.assert_allclose(frame.T_map_cam, even_camera_pose(stamp(index)), atol=1e-6)
    assert replay(path, tiny_map, tmp_path / 'out') == 0
    assert '2 for content' in capsys.readouterr().out
    worse = write_drive(tmp_path / 'worse', **{kind: spoil}, bad=MANY)
    with pytest.raises(AprlocError, match=f'3 of {COUNT} messages of {topic} .*3 for content.*message 5'):
        read_capture(worse, tmp_path / 'cache')
    assert replay(worse, tiny_map, tmp_path / 'out') == 1
    assert capsys.readouterr().err.count('\n') == 1


def test_replay_says_once_what_the_truth_lacks(tmp_path, tiny_map, capsys):
    path = write_drive(tmp_path / 'bag', bad_poses=POSES['no rotation'][0], bad=FEW)
    assert replay(path, tiny_map, tmp_path / 'out') == 0
    assert capsys.readouterr().out.count('left out: 2 of 40 messages of /pose') == 1


def test_poses_that_are_sent_twice_are_nothing_to_say(tmp_path):
    with Drive(tmp_path / 'bag') as bag:
        bag.info()
        for index in range(COUNT):
            bag.compressed_image(index)
            bag.posed(index)
            bag.posed(index)
    assert not left_out(read_capture(tmp_path / 'bag', tmp_path / 'cache'))


def test_an_image_without_a_frame_leaves_it_to_the_next(tmp_path, tiny_map, capsys):
    with Drive(tmp_path / 'bag') as bag:
        bag.info()
        bag.mounting()
        for index in range(COUNT):
            bag.compressed_image(index, frame='' if index == 0 else FRAME)
            bag.pose('/odom', stamp(index), base_pose(stamp(index)), 'Odometry', child='base_link')
    frames_of(tmp_path / 'bag', tmp_path)
    assert replay(tmp_path / 'bag', tiny_map, tmp_path / 'out') == 0
    assert 'poses of base_link' in capsys.readouterr().out


@pytest.mark.parametrize('every, refused', [(25, False), (2, True)])
def test_images_of_another_camera_on_the_same_topic_are_left_out_and_many_refused(tmp_path, tiny_map, capsys, every, refused):
    """Else they would be placed where the first one sits."""
    with Drive(tmp_path / 'bag') as bag:
        bag.info()
        bag.mounting()
        for index in range(COUNT):
            bag.compressed_image(index, frame='right' if index % every == every - 1 else FRAME)
            bag.posed(index)
    words = "of the frame 'right', the first ones of 'camera_optical': another camera's?"
    assert replay(tmp_path / 'bag', tiny_map, tmp_path / 'out') == refused
    said = capsys.readouterr()
    assert words in (said.err if refused else said.out)
    if refused:
        with pytest.raises(AprlocError, match="another camera's"):
            read_capture(tmp_path / 'bag', tmp_path / 'cache')
    else:
        note, = left_out(read_capture(tmp_path / 'bag', tmp_path / 'cache'))
        assert words in note and '1 of 40 images' in note


def test_a_camera_info_of_another_moment_costs_its_images_alone(tmp_path):
    with Drive(tmp_path / 'bag') as bag:
        for index in range(COUNT):
            bag.info(time_ns=stamp(index), model='plumb_bob' if index != 3 else 'not_yet_known')
            bag.compressed_image(index)
            bag.posed(index)
    note, = left_out(read_capture(tmp_path / 'bag', tmp_path / 'cache'))
    assert '1 of 40 images' in note and '1 for camera_info' in note and "'not_yet_known'" in note


def tf_drive(path, *more, spoil=()):
    """Poses from TF; `more` are further transforms: parent, child, index."""
    with Drive(path) as bag:
        bag.info()
        bag.mounting()
        for index in range(COUNT):
            bag.compressed_image(index)
            T = np.linalg.inv(T_MAP_ODOM) @ base_pose(stamp(index))
            bag.transform('/tf', 'map', 'odom', T_MAP_ODOM, stamp(index))
            if index in spoil:
                T = T.copy()
                T[0, 3] = -math.inf
            bag.transform('/tf', 'odom', 'base_link', T, stamp(index))
        for parent, child, index in more:
            bag.transform('/tf', parent, child, np.eye(4), stamp(index))
    return path


def frames_of(path, tmp_path):
    capture = read_capture(path, tmp_path / 'cache')
    for frame in (*capture.train, *capture.test):
        time_ns = round(frame.stamp_s * 1e9)
        np.testing.assert_allclose(frame.T_map_cam, base_pose(time_ns) @ T_BASE_CAM, atol=2e-3)
    return capture


def test_frames_that_nobody_asked_about_may_be_no_tree(tmp_path):
    strange = [(parent, 'gripper', index) for index in range(COUNT) for parent in ('arm', 'wrist')]
    loop = [('a', 'b', 1), ('b', 'a', 2), ('c', 'c', 3)]
    assert not left_out(frames_of(tf_drive(tmp_path / 'bag', *strange, *loop), tmp_path))


def test_what_lies_above_the_frames_that_are_asked_about_is_not_looked_at(tmp_path):
    """The pose is a topic's, of base_link; what moves base_link are two others."""
    with Drive(tmp_path / 'bag') as bag:
        bag.info()
        bag.mounting()
        for index in range(COUNT):
            bag.compressed_image(index)
            bag.pose('/pose', stamp(index), base_pose(stamp(index)))
            for parent in ('odom', 'map'):
                bag.transform('/tf', parent, 'base_link', np.eye(4), stamp(index))
    (tmp_path / 'bag' / 'capture.yaml').write_text('pose_frame: base_link\n')
    assert not left_out(frames_of(tmp_path / 'bag', tmp_path))


def test_a_few_transforms_of_another_parent_are_left_out_and_many_refused(tmp_path):
    note, = left_out(frames_of(tf_drive(tmp_path / 'bag', ('earth', 'base_link', 1)), tmp_path))
    assert 'left out: 1 of 41 transforms of frame base_link' in note
    assert 'two parents, odom (40 times) and earth (1 times)' in note
    with pytest.raises(AprlocError, match=r'base_link has two parents, odom \(40 times\) and earth \(10 times\)'):
        frames_of(tf_drive(tmp_path / 'worse', *(('earth', 'base_link', index) for index in range(10))), tmp_path)


def test_two_static_parents_are_refused_where_they_matter(tmp_path):
    path = tf_drive(tmp_path / 'bag')
    with DriveBag(tmp_path / 'two') as bag:
        bag.images()
        for parent in ('base_link', 'mast'):
            bag.transform('/tf_static', parent, FRAME, T_BASE_CAM, stamp(0))
    with open_recording(path) as recording:
        assert read_tf(recording).connects('base_link', FRAME)
    with open_recording(tmp_path / 'two') as recording, pytest.raises(AprlocError, match='has two parents, base_link'):
        read_tf(recording).connects('base_link', FRAME)


def test_of_static_transforms_the_last_that_is_one_counts(tmp_path):
    path = tf_drive(tmp_path / 'bag')
    with Drive(tmp_path / 'two') as bag:
        bag.transform('/tf_static', 'base_link', FRAME, T_BASE_CAM, stamp(0))
        bag.transform('/tf_static', 'base_link', FRAME, T_BASE_CAM + np.diag([math.inf], 3), stamp(1))
    at = torch.zeros(1, dtype=torch.float64)
    with open_recording(tmp_path / 'two') as recording:
        np.testing.assert_allclose(read_tf(recording).lookup('base_link', FRAME, at, 0.1)[0][0], T_BASE_CAM, atol=1e-9)
        assert len(recording.notes) == 1 and 'message 1' in recording.notes[0]
    assert not left_out(frames_of(path, tmp_path))


@pytest.mark.parametrize('other, words', [(0.0, []), (0.1, ['static transforms from base_link to', 'differ by up to 0.100 m and 0.0 deg: the last one counts'])])
def test_static_transforms_that_say_different_things_are_named(tmp_path, other, words):
    """A robot's description and a calibration both say where the camera sits: poses are of whoever came last."""
    with Drive(tmp_path / 'two') as bag:
        bag.transform('/tf_static', 'base_link', FRAME, T_BASE_CAM + other * np.eye(4, k=3), stamp(0))
        bag.transform('/tf_static', 'base_link', FRAME, T_BASE_CAM, stamp(1))
    with open_recording(tmp_path / 'two') as recording:
        tree, at = read_tf(recording), torch.zeros(1, dtype=torch.float64)
        for _ in range(2):
            np.testing.assert_allclose(tree.lookup('base_link', FRAME, at, 0.1)[0][0], T_BASE_CAM, atol=1e-9)
        assert len(recording.notes) == bool(words) and all(word in note for note in recording.notes for word in words)


def test_transforms_that_overtook_one_another_are_sorted(tmp_path):
    with Drive(tmp_path / 'bag') as bag:
        bag.info()
        bag.mounting()
        for index in (i for pair in range(0, COUNT, 2) for i in (pair + 1, pair)):
            bag.transform('/tf', 'map', 'base_link', base_pose(stamp(index)), stamp(index))
        for index in range(COUNT):
            bag.compressed_image(index)
    assert not left_out(frames_of(tmp_path / 'bag', tmp_path))


def test_bad_transforms_are_left_out_and_many_refused(tmp_path):
    note, = left_out(frames_of(tf_drive(tmp_path / 'bag', spoil=FEW), tmp_path))
    assert 'left out: 2 of 40 transforms from odom to base_link cannot be used (2 for pose)' in note
    with pytest.raises(AprlocError, match='3 of 40 transforms from odom to base_link .*NaN or infinity'):
        frames_of(tf_drive(tmp_path / 'worse', spoil=MANY), tmp_path)


@pytest.mark.parametrize('total, most', [(2, 0), (3, 1), (10, 1), (20, 1), (40, 2), (100, 5)])
def test_up_to_a_share_and_in_any_case_one(total, most):
    skipped = Skipped('messages', total)
    assert skipped.summary() == ''
    for count in itertools.count(1):
        skipped.add('stamp', 'first' if count == 1 else 'later')
        if count > most:
            break
        assert f'{count} of {total} messages cannot be used ({count} for stamp), the first: first' in skipped.summary()
    with pytest.raises(AprlocError, match=f'{most + 1} of {total} messages'):
        skipped.summary()
