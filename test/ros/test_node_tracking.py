"""One real node over real DDS on a line whose truth is known: what it believes, when it is lost, what one may ask of it."""

import re

import pytest
import torch
from tiny_map import CAMERA, save_tiny_map

pytest.importorskip('rclpy', reason='ROS is not installed')
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_peer import (
    LINE,
    LINE_M,
    PATIENCE_S,
    camera_info_message,
    frame_counts,
    image_message,
    line_pixels,
    next_stamp,
    running_nodes,
)
from std_msgs.msg import String

from aprloc_ros.ros.messages import pose_to_message


@pytest.fixture(scope='module')
def node(tmp_path_factory, peer, tiny_map):
    """One node for all tests; each begins with a search."""
    save_tiny_map(tiny_map.parent / 'other', seed=1)
    with running_nodes(tmp_path_factory.mktemp('node'), peer, tiny_map) as start:
        start(LINE, confirmations=2, lost_after_s=60.0, lost_after_rejections=3, odometry='none', publish_tf='none')
        peer.wait_until_active()
        peer.publish('camera_info', camera_info_message(CAMERA))
        yield peer


@pytest.fixture
def searching(node):
    """The peer of a node that knows nothing."""
    assert node.set_parameter('relocalize_timeout_s', 0.1).successful
    node.wait_for(lambda: not node.trigger('relocalize').success, 'the end of the images of the test before')
    assert node.set_parameter('relocalize_timeout_s', PATIENCE_S).successful
    node.diagnostics.clear()
    node.wait_for(lambda: node.values().get('status') == 'searching', 'the search')
    node.forget()
    return node


def send(peer, x_m):
    """An image at x_m, and the time for its answer -> its stamp."""
    stamp = next_stamp()
    peer.wait_for(lambda: peer.diagnostics, 'what was before')
    before = frame_counts(peer)[0]
    peer.publish('image', image_message(line_pixels(x_m), stamp))
    peer.wait_for(lambda: before < frame_counts(peer)[0] == sum(frame_counts(peer)[1:]),
                  'an answer, and the diagnostic that tells of it')
    return stamp


def localized_at(peer, x_m):
    """The peer once the node is localized at x_m."""
    while peer.values().get('status') != 'localized':
        send(peer, x_m)
    return peer


def published_x(peer, stamp):
    return peer.poses[stamp].pose.position.x if stamp in peer.poses else None


def test_a_first_pose_needs_its_confirmation_and_the_status_is_latched(searching):
    peer = searching
    first, second = send(peer, 2.0), send(peer, 2.0)
    peer.wait_for(lambda: second in peer.full_poses, 'the confirmed pose')
    assert first not in peer.poses and published_x(peer, second) == pytest.approx(2.0, abs=LINE_M)
    peer.wait_for(lambda: peer.statuses[-1:] == ['localized'] and peer.values()['status'] == 'localized', 'the status')
    late = []
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = peer._node.create_subscription(String, 'relocalize/status', lambda m: late.append(m.data), qos)
    peer.wait_for(lambda: late, 'the status, for one who comes late')
    peer._node.destroy_subscription(subscription)
    assert late == ['localized']


def test_timings_are_in_the_diagnostics(searching):
    values = localized_at(searching, 2.0).values()
    for part in ('decode', 'prepare', 'regress', 'total', 'publish', 'answer', 'age', 'age max'):
        assert float(values[f'{part} ms']) >= 0
    assert values['answer by'] == 'prior' and values['map'] == 'tiny'


def test_after_a_kidnapping_no_pose_is_published_until_the_new_place_is_confirmed(searching):
    peer = localized_at(searching, 1.0)
    stamps = [send(peer, 4.0) for _ in range(6)]
    peer.wait_for(lambda: stamps[-1] in peer.poses, 'the pose in the new place')
    x = [published_x(peer, stamp) for stamp in stamps]
    assert x[:4] == [None] * 4 and x[4:] == pytest.approx([4.0, 4.0], abs=LINE_M)
    peer.wait_for(lambda: peer.statuses[-3:] == ['localized', 'lost', 'localized'], 'the states between')
    # Starts, told as scores: none while lost, then the last pose.
    assert float(peer.values()['score']) == pytest.approx(4.0, abs=0.1)


def test_after_the_drive_it_is_the_silence_that_is_told_and_not_the_last_rejection(searching):
    peer = localized_at(searching, 1.0)
    send(peer, 4.0)   # a jump
    assert peer.set_parameter('lost_after_s', 0.5).successful
    status = peer.wait_for_diagnostic(lambda status: 'no image' in status.message, 'the silence')
    assert status.message.startswith('lost; no image for ') and status.level == status.WARN
    assert peer.set_parameter('relocalize_timeout_s', 1.0).successful
    assert 'no image for' in peer.trigger('relocalize').message
    assert peer.set_parameter('lost_after_s', 60.0).successful


def test_a_single_outlier_is_a_jump_and_changes_nothing(searching):
    peer = localized_at(searching, 1.0)
    outlier, good = send(peer, 4.0), send(peer, 1.0)
    peer.wait_for(lambda: good in peer.poses, 'a pose')
    assert outlier not in peer.poses and 'jump' in peer.values()['last rejection']
    assert peer.values()['status'] == 'localized'


def test_a_camera_that_is_silent_or_black_loses_the_robot_until_it_sees_again(searching):
    peer = localized_at(searching, 2.0)
    assert peer.set_parameter('lost_after_s', 0.5).successful
    black = next_stamp()
    peer.publish('image', image_message(0 * line_pixels(2.0), black))
    peer.wait_for(lambda: 'shows next to nothing' in peer.values()['last rejection'], 'a rejection')
    peer.wait_for(lambda: peer.statuses[-1:] == ['lost'], 'the robot to be lost')
    assert peer.set_parameter('lost_after_s', 60.0).successful
    stamps = [send(peer, 2.0) for _ in range(2)]
    peer.wait_for(lambda: stamps[1] in peer.poses and peer.statuses[-1] == 'localized', 'the robot')
    assert black not in peer.poses


def test_relocalize_waits_for_a_pose_and_says_it(searching):
    peer = localized_at(searching, 1.0)
    # The frames come while the service waits, from elsewhere: no gate holds them back, but they are confirmed.
    response = peer.trigger('relocalize', lambda: send(peer, 4.0) and None)
    assert response.success and response.message.startswith('localized at 4.0'), response.message
    peer.wait_for(lambda: peer.statuses[-2:] == ['searching', 'localized'], 'the states between')


def test_relocalize_says_when_no_pose_came(searching):
    assert searching.set_parameter('relocalize_timeout_s', 0.2).successful
    response = searching.trigger('relocalize')
    assert not response.success
    assert re.fullmatch(r'no pose within 0.2 s: searching; no image for \d+\.\d s on /image: peer publishes it, but nothing '
                        r'arrives', response.message), response.message


def initial_pose(x_m, frame_id='map'):
    T = torch.eye(4, dtype=torch.float64)
    T[0, 3] = x_m
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame_id
    message.pose.pose = pose_to_message(T)
    message.pose.covariance[0] = message.pose.covariance[7] = 0.25
    return message


def test_a_pose_that_somebody_states_is_the_start_of_the_next_frame(searching):
    peer = localized_at(searching, 1.0)
    assert peer.set_parameter('gate_probability', 1.0).successful   # so that the orientation does not matter
    # One topic, in order: when the second pose has been taken, the first has been refused.
    peer.publish('initialpose', initial_pose(2.2, 'elsewhere'))
    peer.publish('initialpose', initial_pose(3.3, 'map'))
    peer.wait_for(lambda: peer.statuses[-1:] == ['searching'], 'the pose to be taken')
    assert 'searching' not in peer.statuses[:-1]
    send(peer, 1.0)
    assert float(peer.values()['score']) == pytest.approx(3.3, abs=LINE_M)
    peer.wait_for(lambda: peer.statuses[-2:] == ['searching', 'localized'], 'the states between')
    assert peer.set_parameter('gate_probability', 0.99).successful


def test_the_pose_is_published_for_amcl_on_request_and_not_taken_for_another_ones(searching):
    peer, heard = searching, []
    refused = peer.trigger('publish_initialpose')
    assert not refused.success and 'searching' in refused.message
    localized_at(peer, 2.0)
    subscription = peer._node.create_subscription(PoseWithCovarianceStamped, 'initialpose', heard.append, 10)

    def published():
        response = peer.trigger('publish_initialpose')
        assert response.success and response.message.startswith('published on /initialpose: localized at 2.0')
        return heard

    peer.wait_for(published, 'the pose')   # which DDS tells nobody whom it has not matched yet
    send(peer, 2.0)
    peer._node.destroy_subscription(subscription)
    assert heard[0].pose.pose.position.x == pytest.approx(2.0, abs=LINE_M) and heard[0].header.frame_id == 'map'
    assert peer.values()['status'] == 'localized' and peer.statuses.count('localized') == 1


def test_live_parameters_change_while_active_and_are_checked(searching):
    peer = searching
    assert peer.set_parameter('confirmations', 1).successful
    stamp = send(peer, 2.0)
    peer.wait_for(lambda: stamp in peer.poses, 'a pose at once')
    assert not peer.set_parameter('confirmations', 0).successful
    assert not peer.set_parameter('tf_rate_hz', 10.0).successful
    assert not peer.set_parameter('autostart', False).successful
    assert peer.set_parameter('confirmations', 2).successful


def test_one_shot_answers_when_it_is_asked_and_then_no_more(node):
    peer = node
    assert peer.transition('deactivate')
    peer.wait_for(lambda: peer.statuses[-1:] == ['unconfigured'], 'the status')
    assert not peer.trigger('relocalize').success
    assert peer.set_parameter('mode', 'one_shot').successful and peer.set_parameter('lost_after_s', 0.5).successful
    assert peer.transition('activate')
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))

    stamps = []

    def see():
        """An image, unless the node has one in hand: its next answer confirms no first one from long before."""
        counts = frame_counts(peer)
        if counts[0] == sum(counts[1:]):
            stamps.append(next_stamp())
            peer.publish('image', image_message(line_pixels(2.0), stamps[-1]))
        peer.spin_for(0.05)

    peer.forget()
    for _ in range(5):
        see()
    assert not peer.poses
    response = peer.trigger('relocalize', see)
    assert response.success and response.message.startswith('localized at 2.0'), response.message
    peer.wait_for(lambda: peer.heard and peer.statuses[-1:] == ['localized'], 'the pose')
    peer.wait_for(lambda: frame_counts(peer)[0] == sum(frame_counts(peer)[1:]), 'the end of what it was asked')
    stamps.clear()
    for _ in range(5):
        see()
    peer.spin_for(1.0)   # longer than lost_after_s, which does not count while nobody asks
    assert len(stamps) == 5 and not set(stamps) & set(peer.heard) and peer.statuses[-1] == 'localized'
    assert peer.transition('deactivate') and peer.set_parameter('mode', 'continuous').successful
    assert peer.set_parameter('lost_after_s', 60.0).successful and peer.transition('activate')
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))


def test_the_map_is_switched_while_inactive(node):
    peer = node
    assert peer.transition('deactivate')
    assert not peer.set_parameter('map', '../tiny').successful
    assert peer.set_parameter('map', 'absent').successful and not peer.transition('activate')
    assert peer.state() == 'inactive'
    peer.wait_for_diagnostic(lambda s: s.level == s.ERROR and 'no map absent' in s.message, 'an error')
    for name in ('other', 'tiny'):
        assert peer.set_parameter('map', name).successful and peer.transition('activate')
        peer.wait_until_active()
        assert peer.values()['map'] == name
        peer.publish('camera_info', camera_info_message(CAMERA))
        localized_at(peer, 2.0)
        if name == 'other':
            assert peer.transition('deactivate')
