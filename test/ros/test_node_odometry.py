"""What the real node says of odometry that contradicts its images, and of inputs that are elsewhere."""

import math
import re

import pytest
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from ros_peer import (
    LINE,
    assert_answers,
    camera_info_message,
    frame_counts,
    image_message,
    line_pixels,
    next_stamp,
    set_stamp,
)
from test_node_tf import RECORD_TF


def test_odometry_that_stands_still_is_named_once_in_the_log_and_in_every_diagnostic(run, peer):
    log = run(LINE, publish_tf='none')
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))

    def drive(index):
        stamp = next_stamp()
        odometry = set_stamp(Odometry(child_frame_id='base_link'), stamp)
        odometry.header.frame_id = 'odom'
        peer.publish('odom', odometry)
        done = sum(frame_counts(peer)[1:])
        peer.publish('image', image_message(line_pixels(0.6 + 0.04 * index), stamp))
        peer.wait_for(lambda: sum(frame_counts(peer)[1:]) > done, 'an answer, and the diagnostic that tells of it')

    for index in range(90):
        drive(index)
        if 'odometry contradicts the images' in (peer.diagnostics[-1].message if peer.diagnostics else ''):
            break
    status = peer.wait_for_diagnostic(lambda status: True, 'a diagnostic')
    assert 'odometry contradicts the images: in ' in status.message and 'odometry 0.00 m' in status.message
    assert status.level == status.WARN
    assert log.read_text().count('odometry contradicts the images') == 1


def test_images_that_are_stamped_late_are_told(run, peer):
    """Back and forth along the line; each image shows where the robot was 0.3 s before its stamp."""
    log = run(LINE, publish_tf='none', confirmations=1)
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))

    begun_s = next_stamp() / 1e9

    def x_m(time_s):
        return 2.4 + 1.5 * math.sin(1.5 * (time_s - begun_s))

    def drive(stamp):
        for time_ns in (stamp - 4 * 10**8, stamp - 2 * 10**8, stamp):
            odometry = set_stamp(Odometry(child_frame_id='base_link'), time_ns)
            odometry.header.frame_id = 'odom'
            odometry.pose.pose.position.x = x_m(time_ns / 1e9)
            odometry.pose.pose.orientation = pose.orientation
            peer.publish('odom', odometry)
        done = sum(frame_counts(peer)[1:])
        peer.publish('image', image_message(line_pixels(x_m(stamp / 1e9 - 0.3)), stamp))
        peer.wait_for(lambda: sum(frame_counts(peer)[1:]) > done, 'an answer, and the diagnostic that tells of it')

    peer.publish('image', image_message(line_pixels(x_m(begun_s)), next_stamp()))
    peer.wait_for(lambda: peer.poses, 'a pose')
    pose, = (message.pose for message in peer.poses.values())   # how the camera is turned on the map
    for stamp in [next_stamp() for _ in range(600)][9::3]:
        drive(stamp)
        if 'late against odometry' in peer.diagnostics[-1].message:
            break
    told = re.match(r"the images' stamps are ([\d.]+) s late against odometry", peer.diagnostics[-1].message)
    assert told and float(told[1]) == pytest.approx(0.3, abs=0.02), peer.diagnostics[-1].message   # exposures are as long
    assert peer.diagnostics[-1].level == DiagnosticStatus.WARN and log.read_text().count('late against odometry') == 1


def test_odometry_of_another_body_is_told_in_the_diagnostics(run, peer):
    run(RECORD_TF, base_frame='footprint')
    peer.wait_until_active()
    reason = "no transform is published: odom is of 'base_link', not of the base_frame 'footprint'"

    def told():
        """An image may overtake the odometry, so there is more of both."""
        peer.publish('odom', set_stamp(Odometry(child_frame_id='base_link'), next_stamp()))
        assert_answers(peer)
        return any(status.message == reason for status in peer.diagnostics)
    peer.wait_for(told, 'the reason')


def test_two_sources_of_odometry_on_one_topic_are_told_where_nothing_agrees(run, peer):
    """Each right by itself, half a metre apart."""
    run(LINE, publish_tf='none')
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))
    other = peer._node.create_publisher(Odometry, 'odom', 10)

    def told():
        stamp = next_stamp()
        odometry = set_stamp(Odometry(child_frame_id='base_link'), stamp)
        odometry.header.frame_id = 'odom'
        odometry.pose.pose.position.x = 0.45 * (stamp // 10**8 % 2)
        (other.publish if stamp // 10**8 % 2 else lambda message: peer.publish('odom', message))(odometry)
        peer.publish('image', image_message(line_pixels(2.0), stamp))
        peer.spin_for(0.1)
        return any('/odom has 2 publishers (peer, peer), whose messages mix' in status.message for status in peer.diagnostics)
    peer.wait_for(told, 'the reason')
    peer._node.destroy_publisher(other)


def test_odometry_in_a_frame_that_is_not_its_own_moves_nothing(run, peer):
    """In the map's: somebody's answer, perhaps our own, and a transform from the map to itself. In none: a transform that TF refuses."""
    run(RECORD_TF)
    peer.wait_until_active()
    for frame, words in (('map', 'the frame of the map itself'), ('', 'no frame'), ('base_link', 'the frame of the robot itself')):
        reason = f'no transform is published: odom is in {frame!r}, {words}; give odometry in a frame of its own'

        def told():
            odometry = set_stamp(Odometry(child_frame_id='base_link'), next_stamp())
            odometry.header.frame_id = frame   # noqa: B023
            peer.publish('odom', odometry)
            assert_answers(peer)
            return any(status.message == reason for status in peer.diagnostics)   # noqa: B023
        peer.wait_for(told, 'the reason')


def test_a_camera_that_publishes_compressed_images_alone_is_told_so(run, peer):
    run()   # the peer publishes on image and on image/compressed
    peer.wait_until_active()
    publisher = peer._publishers.pop('image')
    peer._node.destroy_publisher(publisher)
    try:
        status = peer.wait_for_diagnostic(lambda status: 'compressed' in status.message, 'the silence')
        assert status.level == status.WARN
        assert status.message == ('waiting for the first image: no image yet on /image: nobody publishes it, but there are '
                                  'publishers on /image/compressed: set compressed:=true (image_transport: compressed)')
    finally:
        peer._publishers['image'] = peer._node.create_publisher(type(image_message(line_pixels(1.0))), 'image', 100)


def test_camera_info_on_another_topic_is_told_so(run, peer):
    run(remappings=['camera_info:=elsewhere'])
    peer.wait_for(lambda: peer.values().get('state') == 'active' and peer._node.count_subscribers('image') == 1, 'a node')
    peer.publish('image', image_message(line_pixels(1.0), next_stamp()))
    peer.wait_for(lambda: 'none has arrived' in peer.values().get('last rejection', ''), 'a rejection')
    assert peer.values()['last rejection'].startswith(
        'camera_info: none has arrived: no camera_info yet on /elsewhere: nobody publishes it; '
        'sensor_msgs/msg/CameraInfo is on /camera_info; publish it, or set')


def test_the_second_camera_of_a_stereo_pair_is_told_how_far_off_poses_may_be(run, peer):
    log = run()
    peer.wait_until_active()
    pair = camera_info_message(CAMERA)
    pair.p[0], pair.p[3] = 100.0, -12.0
    peer.publish('camera_info', pair)
    for _ in range(2):
        peer.publish('image', image_message(line_pixels(1.0), next_stamp()))
        peer.wait_for(lambda: sum(frame_counts(peer)[1:]) >= 1, 'what became of the image')
    assert log.read_text().count('second camera of a stereo pair, 0.120 m beside the first') == 1


def test_camera_info_of_another_frame_than_the_images_is_told_once(run, peer):
    log = run()
    peer.wait_until_active()
    other = camera_info_message(CAMERA)
    other.header.frame_id = 'right'
    peer.publish('camera_info', other)
    for _ in range(2):
        stamp = next_stamp()
        peer.publish('image', image_message(line_pixels(1.0), stamp, frame_id='left'))
        peer.wait_for(lambda: sum(frame_counts(peer)[1:]) >= 1, 'what became of the image')
    assert log.read_text().count("the images are of the frame 'left', camera_info of 'right': another camera's?") == 1
