"""What a replay takes from a bag: images, their camera, and the truth at their stamps, whatever the form."""

import drive_fixtures as fixtures
import numpy as np
import pytest
from drive_fixtures import (
    COUNT,
    FRAME,
    MCAP,
    SQLITE3,
    DriveBag,
    base_pose,
    camera_pose,
    even_camera_pose,
    picture,
    stamp,
)
from tiny_map import CAMERA

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import choose_topics, read_images
from aprloc_ros.recordings.odometry_topic import find_odometry
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.truth import TruthOptions, find_truth, read_tf

ROS1 = None
STORAGES = {'mcap': MCAP, 'sqlite3': SQLITE3, 'ros1': ROS1}


def make_bag(tmp_path, storage='mcap', *fill):
    """A bag filled by each of the functions -> its path."""
    path = tmp_path / ('bag.bag' if storage == 'ros1' else 'bag')
    with DriveBag(path, STORAGES[storage]) as bag:
        for part in fill:
            part(bag)
    return path


def read(path, image=None, camera_info=None):
    with open_recording(path) as recording:
        return list(read_images(recording, choose_topics(recording, image, camera_info)))


@pytest.mark.parametrize('storage', STORAGES)
def test_images_come_with_their_camera(tmp_path, storage):
    distorted = Camera(64, 48, 61.0, 62.0, 30.0, 24.0, 'opencv', (0.1, -0.02, 0.001, -0.002, 0.003))
    path = make_bag(tmp_path, storage, lambda bag: bag.images(), lambda bag: bag.info(camera=distorted))
    images = read(path)
    assert [image.stamp_ns for image in images] == [stamp(index) for index in range(COUNT)]
    assert {image.frame_id for image in images} == {FRAME}
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image.pixels(), picture(index))
        assert image.camera() == distorted


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('suffix, tolerance', [('.png', 0), ('.jpg', 12)])
def test_compressed_images_are_found(tmp_path, storage, suffix, tolerance):
    path = make_bag(tmp_path, storage, lambda bag: bag.compressed(suffix=suffix), lambda bag: bag.info())
    for index, image in enumerate(read(path)):
        assert np.abs(image.pixels().astype(int) - picture(index)).mean() <= tolerance
        assert image.camera() == CAMERA


def test_another_encoding(tmp_path):
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.image(stamp(0), picture(0)[..., ::-1], encoding='bgr8'))
    image, = read(path)
    np.testing.assert_array_equal(image.pixels(), picture(0))
    assert image.camera() is None     # that of the map


def test_the_newest_camera_info_counts(tmp_path):
    other = CAMERA.resized(CAMERA.width, CAMERA.height // 2)
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), lambda bag: bag.info(time_ns=stamp(1)),
                    lambda bag: bag.info(camera=other, time_ns=stamp(6)))
    assert [image.camera() == other for image in read(path)] == [False] * 6 + [True] * 4


@pytest.mark.parametrize('late_ns', [-20_000_000, 20_000_000, 250_000_000], ids=['before', 'after', 'long after'])
def test_the_camera_info_of_an_images_stamp_is_its_own(tmp_path, late_ns):
    """A camera that zooms: drivers publish the image first, or its camera_info."""
    zoomed = [Camera(64, 48, 60.0 + index, 61.0 + index, 30.0, 24.0) for index in range(COUNT)]

    def infos(bag):
        for index, camera in enumerate(zoomed):
            bag.info(camera=camera, time_ns=stamp(index), recorded_ns=stamp(index) + late_ns)
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), infos)
    assert [image.camera() for image in read(path)] == zoomed


def test_the_only_camera_info_may_be_of_another_camera(tmp_path):
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images('/color/image_raw'),
                    lambda bag: bag.info('/depth/camera_info', frame='depth_optical'))
    with pytest.raises(AprlocError, match=r"/depth/camera_info, is of the frame 'depth_optical', .*'camera_optical'.*--camera-info"):
        read(path)
    assert read(path, camera_info='/depth/camera_info')[0].camera() == CAMERA


def test_several_topics_need_a_choice(tmp_path):
    left, right = CAMERA, CAMERA.resized(32, 24)
    path = make_bag(
        tmp_path, 'mcap', lambda bag: bag.images('/left/image_raw', left), lambda bag: bag.info('/left/camera_info', left),
        lambda bag: bag.images('/right/image_raw', right), lambda bag: bag.info('/right/camera_info', right),
        lambda bag: bag.image(stamp(0), np.zeros((4, 4, 2), np.uint8), '/left/depth', '16UC1'))
    with pytest.raises(AprlocError, match=r'2 topics with colour images \(/left/image_raw, /right/image_raw\).*--image'):
        read(path)
    assert read(path, image='right/image_raw')[0].camera() == right
    assert read(path, image='/left/image_raw')[0].camera() == left
    assert read(path, '/left/image_raw', '/right/camera_info')[0].camera() == right
    with pytest.raises(AprlocError, match='no image topic /top; it holds .*/left/image_raw'):
        read(path, image='/top')


def test_a_rectified_topic_has_no_distortion(tmp_path):
    distorted = Camera(64, 48, 61.0, 62.0, 30.0, 24.0, 'opencv', (0.1, 0, 0, 0, 0))
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images('/camera/image_rect_color'),
                    lambda bag: bag.info(camera=distorted))
    assert read(path)[0].camera() == distorted.without_distortion()


def poses(topic, T_at, kind='PoseStamped', frame='map', child='', skip=()):
    def fill(bag):
        for index, time_ns in enumerate(fixtures.truth_stamps()):
            if index not in skip:
                bag.pose(topic, time_ns, T_at(time_ns), kind, frame, child)
    return fill


def truth_of(path, **options):
    with open_recording(path) as recording:
        return find_truth(recording, read_tf(recording), TruthOptions(**options), 'map', FRAME, COUNT)


def assert_is_truth(truth, expected=camera_pose, unknown=()):
    stamps_ns = [stamp(index) for index in range(COUNT)]
    T_map_cam, known = truth.at(stamps_ns)
    assert [index for index, is_known in enumerate(known.tolist()) if not is_known] == list(unknown)
    for index, time_ns in enumerate(stamps_ns):
        if index not in unknown:
            np.testing.assert_allclose(T_map_cam[index], expected(time_ns), atol=1e-6)


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('kind', ['PoseStamped', 'PoseWithCovarianceStamped'])
def test_truth_of_the_camera_from_a_topic(tmp_path, storage, kind):
    truth = truth_of(make_bag(tmp_path, storage, lambda bag: bag.images(), poses('/mocap', even_camera_pose, kind)))
    assert_is_truth(truth, even_camera_pose)
    assert truth.source == 'topic /mocap'


@pytest.mark.parametrize('storage', STORAGES)
def test_truth_of_the_base_from_odometry(tmp_path, storage):
    path = make_bag(tmp_path, storage, lambda bag: bag.images(), lambda bag: bag.mounting(),
                    poses('/ground_truth', base_pose, 'Odometry', child='base_link'))
    assert_is_truth(truth_of(path))


ANOTHER = [{'frame': 'odom', 'child': 'base_link'}, {'frame': 'map', 'child': 'imu_link'}]


def two_publishers(topic, other, of_other):
    """Odometry of the base in the map, and every so many messages one of another frame or body, 3 m off, stamped as the one before."""
    off = np.eye(4)
    off[0, 3] = 3.0

    def fill(bag):
        for index, time_ns in enumerate(fixtures.truth_stamps()):
            bag.pose(topic, time_ns, base_pose(time_ns), 'Odometry', 'map', 'base_link')
            if index % of_other == of_other - 1:
                bag.pose(topic, time_ns + 10_000_000, off @ base_pose(time_ns), 'Odometry', **other)
    return fill


@pytest.mark.parametrize('other', ANOTHER)
def test_truth_on_the_topic_of_another_publisher_is_of_one_of_them(tmp_path, other):
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), lambda bag: bag.mounting(), two_publishers('/truth', other, 20))
    with open_recording(path) as recording:
        assert_is_truth(find_truth(recording, read_tf(recording), TruthOptions('truth'), 'map', FRAME, COUNT))
        assert 'left out: 1 of 27 messages of /truth' in str(recording.notes)


@pytest.mark.parametrize('other', ANOTHER)
def test_truth_of_two_publishers_in_turns_is_refused(tmp_path, other):
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), lambda bag: bag.mounting(), two_publishers('/truth', other, 1))
    part, (own, first) = ('frame', ('odom', 'map')) if other['frame'] == 'odom' else ('body', ('imu_link', 'base_link'))
    with pytest.raises(AprlocError, match=f"26 for {part}.*its {part} is '{own}', that of the first message '{first}'"):
        truth_of(path, source='truth')


def test_odometry_of_another_frame_is_not_taken_unasked(tmp_path):
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), lambda bag: bag.mounting(),
                    poses('/odom', base_pose, 'Odometry', 'odom', 'base_link'))
    assert truth_of(path) is None
    assert_is_truth(truth_of(path, source='odom'))


def test_truth_of_a_named_body(tmp_path):
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), lambda bag: bag.mounting(), poses('/mocap', base_pose))
    for frame in ('base_link', '/base_link'):
        assert_is_truth(truth_of(path, frame=frame))
    with pytest.raises(AprlocError, match="of 'rig', but no /tf_static leads from there.*--truth-frame"):
        truth_of(path, frame='rig')


@pytest.mark.parametrize('storage', STORAGES)
def test_truth_from_tf(tmp_path, storage):
    path = make_bag(tmp_path, storage, lambda bag: bag.images(), lambda bag: bag.mounting(), lambda bag: bag.tf())
    assert_is_truth(truth_of(path))
    assert_is_truth(truth_of(path, source='tf'))


def test_a_mount_that_is_sent_once_a_second_holds_in_between(tmp_path):
    """As static_transform_publisher of ROS 1 does, on /tf."""
    first, *_, last = fixtures.truth_stamps()

    def mounting(bag):
        for time_ns in (first, last):
            bag.transform('/tf', 'base_link', FRAME, fixtures.T_BASE_CAM, time_ns)
    assert_is_truth(truth_of(make_bag(tmp_path, 'ros1', lambda bag: bag.images(), mounting, lambda bag: bag.tf())))


def test_truth_from_a_tum_file(tmp_path):
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), lambda bag: bag.mounting())
    of_camera = fixtures.write_tum_file(tmp_path / 'camera.tum', even_camera_pose)
    of_base = fixtures.write_tum_file(tmp_path / 'base.tum', base_pose)
    assert_is_truth(truth_of(path, source=str(of_camera)), even_camera_pose)
    assert_is_truth(truth_of(path, source=str(of_base), frame='base_link'))


def test_a_gap_in_the_truth_is_unknown(tmp_path):
    gap = range(9, 12)    # from 0.287 s on, 0.16 s long: around the image at 0.4 s (and 0.3, which has one before it)
    path = make_bag(tmp_path, 'mcap', lambda bag: bag.images(), poses('/mocap', even_camera_pose, skip=gap))
    stamps_s = np.delete(np.array(fixtures.truth_stamps()), list(gap)) - fixtures.START_NS
    images_s = [stamp(index) - fixtures.START_NS for index in range(COUNT)]
    inside = [index for index, time in enumerate(images_s)
              if stamps_s[stamps_s > time].min() - stamps_s[stamps_s < time].max() > 1e8]
    assert inside
    assert_is_truth(truth_of(path), even_camera_pose, unknown=inside)
    assert_is_truth(truth_of(path, max_gap_s=0.2), even_camera_pose)
    assert_is_truth(truth_of(path, max_gap_s=0.0), even_camera_pose, unknown=range(COUNT))


def test_two_topics_with_poses_need_a_choice_unless_one_is_ours(tmp_path):
    both = poses('/slam', even_camera_pose), poses('/mocap', even_camera_pose)
    with pytest.raises(AprlocError, match=r'2 topics with poses \(/mocap, /slam\); choose one with --truth'):
        truth_of(make_bag(tmp_path, 'mcap', lambda bag: bag.images(), *both))
    (tmp_path / 'more').mkdir()
    path = make_bag(tmp_path / 'more', 'mcap', lambda bag: bag.images(), *both, poses('/truth', even_camera_pose))
    assert truth_of(path).source == 'topic /truth'


@pytest.mark.parametrize('options, says', [
    ({'source': 'tf'}, "TF does not move the image frame 'camera_optical' in 'map'"),
    ({'source': '/nowhere'}, 'no TUM file or topic of poses /nowhere'),
    ({'max_gap_s': -1.0}, r'--max-gap-s -1 is outside 0 to 10 s')])
def test_truth_that_is_not_there_says_so(tmp_path, options, says):
    with pytest.raises(AprlocError, match=says):
        truth_of(make_bag(tmp_path, 'mcap', lambda bag: bag.images()), **options)


@pytest.mark.parametrize('text', ['1 2 3\n', '1.0 0 0 0 0 0 0 0.5\n', '1.0 nan 0 0 0 0 0 1\n', '1700000000000000000 0 0 0 0 0 0 1\n', 'not numbers at all no no no\n', ''])
def test_a_file_that_is_no_trajectory_says_so(tmp_path, text):
    (tmp_path / 'bad.tum').write_text(text)
    with pytest.raises(AprlocError, match='bad.tum: (not a TUM trajectory|the pose at|the stamp 1.7e.18 must be .* seconds)'):
        truth_of(make_bag(tmp_path, 'mcap', lambda bag: bag.images()), source=str(tmp_path / 'bad.tum'))


def test_no_truth_is_none(tmp_path):
    assert truth_of(make_bag(tmp_path, 'mcap', lambda bag: bag.images(), lambda bag: bag.mounting())) is None


def odometry(path, name=None, truth=None):
    with open_recording(path) as recording:
        return find_odometry(recording, name, 'base_link', 'map', truth)


def drives(topic, frame='odom', child='base_link'):
    """Fills a bag with Odometry of the drive every 100 ms."""
    def fill(bag):
        for index in range(COUNT):
            bag.pose(topic, stamp(index), base_pose(stamp(index)), 'Odometry', frame=frame, child=child)
    return fill


@pytest.mark.parametrize('storage', STORAGES)
def test_odometry_is_read_between_its_messages(tmp_path, storage):
    found = odometry(make_bag(tmp_path, storage, drives('/odom')))
    assert found.topic == '/odom'
    middle = stamp(3) + 50_000_000
    np.testing.assert_allclose(found.at(middle).numpy(), base_pose(middle), atol=1e-3)
    assert found.at(stamp(0) - 1_000_000) is None and found.at(stamp(COUNT)) is None


def test_odometry_that_was_set_anew_is_not_interpolated_with_what_it_was(tmp_path):
    anew = np.eye(4)
    anew[0, 3] = 20.0

    def fill(bag):
        for index in range(COUNT):
            bag.pose('/odom', stamp(index), (anew if index >= 5 else np.eye(4)) @ base_pose(stamp(index)), 'Odometry', frame='odom', child='base_link')
    found = odometry(make_bag(tmp_path, 'mcap', fill))
    assert found.at(stamp(4) + 50_000_000) is None
    for index in (4, 5):
        assert found.at(stamp(index)) is not None and found.at(stamp(index) + (2 * index - 9) * 10_000_000) is not None
    assert [found.beginnings(stamp(index)) for index in (0, 4, 5, 6)] == [0, 0, 1, 1]


def test_odometry_in_another_frame_that_takes_over_begins_anew_however_near(tmp_path):
    def fill(bag):
        for index in range(COUNT):
            bag.pose('/odom', stamp(index), base_pose(stamp(index)), 'Odometry', frame='odom' if index < 5 else 'visual', child='base_link')
    found = odometry(make_bag(tmp_path, 'mcap', fill))
    assert found.at(stamp(4) + 50_000_000) is None and found.at(stamp(5)) is not None
    assert [found.beginnings(stamp(index)) for index in (0, 4, 5, 6)] == [0, 0, 1, 1]


def test_odometry_of_another_body_in_between_is_refused(tmp_path):
    def fill(bag):
        for index in range(COUNT):
            bag.pose('/odom', stamp(index), base_pose(stamp(index)), 'Odometry', frame='odom', child='base_link' if index % 2 == 0 else 'imu')
    with pytest.raises(AprlocError, match="5 for body.*its body is 'imu', that of the first message 'base_link'"):
        odometry(make_bag(tmp_path, 'mcap', fill))


def test_what_moves_in_the_map_or_moves_something_else_or_is_the_truth_is_no_odometry(tmp_path):
    path = make_bag(tmp_path, 'mcap', drives('/in_map', frame='map'), drives('/arm', child='gripper'), drives('/slam/odom'))
    assert odometry(path, truth='slam/odom') is None
    assert odometry(path).topic == '/slam/odom' == odometry(path, 'slam/odom').topic


@pytest.mark.parametrize('frame, child', [('odom', 'gripper'), ('odom', ''), ('map', 'base_link')])
def test_odometry_that_a_node_would_refuse_is_refused_where_it_is_named(tmp_path, frame, child):
    path = make_bag(tmp_path, 'mcap', drives('/wheels', frame, child))
    with pytest.raises(AprlocError, match=f"/wheels is of '{child}' in '{frame}'; odometry is to be of --base-frame 'base_link'"):
        odometry(path, 'wheels')


def test_two_odometries_need_a_choice(tmp_path):
    path = make_bag(tmp_path, 'mcap', drives('/wheels'), drives('/visual'))
    with pytest.raises(AprlocError, match='--odom'):
        odometry(path)
    with pytest.raises(AprlocError, match='no odometry topic sonar'):
        odometry(path, 'sonar')
