"""One real node over real DDS, fed with what it must refuse: no poses for it, a reason, and it goes on answering."""

import numpy as np
import pytest
import torch
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from diagnostic_msgs.msg import DiagnosticStatus
from ros_peer import (
    PIXELS,
    assert_answers,
    camera_info_message,
    frame_counts,
    image_message,
    interrupt,
    next_stamp,
    set_stamp,
    start_node,
)

from aprloc_ros.geometry import BODY_FROM_CV
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.message_fields import rigid_transform


@pytest.fixture(scope='module')
def active(peer, tiny_map, tmp_path_factory):
    """One node for every test of bad input: it must survive them all."""
    log = tmp_path_factory.mktemp('node') / 'log'
    peer.forget()
    process = start_node(log, {
        'map': 'tiny', 'map_dir': tiny_map.parent, 'device': 'cpu', 'reliability': 'reliable',
        'diagnostics_period_s': 0.1, 'extrinsics': 'parameters', 'publish_tf': 'none', 'max_image_bytes': 100_000,
        'confirmations': 1})
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))
    yield peer
    assert interrupt(process) == 0 and 'Traceback' not in log.read_text(), log.read_text()


def test_the_pose_is_the_localizers_in_the_base_frame_with_the_images_stamp(active, tiny_map):
    stamp = assert_answers(active)
    expected = Localizer(load_map(tiny_map, 'cpu'), 'cpu').localize(PIXELS, CAMERA)
    for message, pose in ((active.poses[stamp], active.poses[stamp].pose),
                          (active.full_poses[stamp], active.full_poses[stamp].pose.pose)):
        assert message.header.frame_id == 'map'
        T_map_base = rigid_transform(pose.position, pose.orientation, 'pose')
        torch.testing.assert_close(T_map_base @ BODY_FROM_CV, expected.T_map_cam, atol=1e-6, rtol=0)
    covariance = np.reshape(active.full_poses[stamp].pose.covariance, (6, 6))
    # The tiny map's covariance is isotropic in translation and in rotation, so no frame changes it.
    np.testing.assert_allclose(covariance, expected.covariance.numpy(), atol=1e-12)


def bad_images():
    def zero_size(message):
        message.height = message.width = message.step = 0
        del message.data[:]

    def truncated(message):
        del message.data[-100:]

    def unknown_encoding(message):
        message.encoding = 'hsv8'

    def huge(message):
        message.width = message.height = 2**31
        message.step = 2**32 - 1

    def longer_pixels(message):
        message.encoding = 'rgba8'

    return [zero_size, truncated, unknown_encoding, huge, longer_pixels]


@pytest.mark.parametrize('spoil', bad_images(), ids=lambda f: f.__name__)
def test_a_frame_that_does_not_decode_gets_a_diagnostic_and_no_pose(active, spoil):
    assert_answers(active)
    stamp = next_stamp()
    message = image_message(PIXELS, stamp)
    spoil(message)
    count = int(active.values().get('rejected: image', 0))
    active.publish('image', message)
    active.wait_for(lambda: int(active.values().get('rejected: image', 0)) == count + 1, 'a rejection')
    assert active.values()['last rejection'].startswith('image: ')
    assert_answers(active)
    assert stamp not in active.poses and stamp not in active.full_poses


def test_camera_info_that_contradicts_the_image_is_refused(active):
    assert_answers(active)
    active.publish('camera_info', camera_info_message(CAMERA.resized(128, 96)))
    refused = []

    def is_refused():
        """The last of the images that are sent until the node has the camera_info, of another topic."""
        if not refused or refused[-1] in active.poses:
            refused.append(next_stamp())
            active.publish('image', image_message(PIXELS, refused[-1]))
        return any('camera_info' in status.message for status in active.diagnostics)
    active.diagnostics.clear()
    active.wait_for(is_refused, 'a rejection')
    status = next(status for status in active.diagnostics if 'camera_info' in status.message)
    assert '64x48' in status.message and '128x96' in status.message and status.level == status.WARN
    assert_answers(active)
    assert refused[-1] not in active.poses


def test_an_image_is_answered_by_the_camera_info_of_its_stamp(active):
    """Whatever came since, as where a camera changes its mode while an answer takes its time."""
    assert_answers(active)
    probes, stamp = iter([next_stamp() for _ in range(1000)]), next_stamp()
    active.publish('camera_info', set_stamp(camera_info_message(CAMERA), stamp))
    active.publish('camera_info', set_stamp(camera_info_message(CAMERA.resized(128, 96)), stamp + 1))
    before, sent = int(active.values().get('rejected: camera_info', 0)), []

    def knows_the_other():
        if not sent or sent[-1] in active.poses:
            sent.append(next(probes))
            active.publish('image', image_message(PIXELS, sent[-1]))
        return int(active.values().get('rejected: camera_info', 0)) > before
    active.wait_for(knows_the_other, 'a rejection by the newest camera_info')
    active.publish('image', image_message(PIXELS, stamp))
    active.wait_for(lambda: stamp in active.poses, 'the pose of an image whose camera_info is not the newest')
    assert_answers(active)


def test_a_stamp_of_zero_is_refused(active):
    assert_answers(active)
    active.publish('image', image_message(PIXELS, 0))
    active.wait_for(lambda: 'the stamp is zero' in active.values()['last rejection']
                    and active.diagnostics[-1].level == DiagnosticStatus.WARN, 'a rejection, and a warning of it')
    assert_answers(active)
    assert 0 not in active.poses


def test_frames_out_of_order_are_refused(active):
    late = next_stamp()
    last = assert_answers(active)
    for stamp in (late, last):
        active.publish('image', image_message(PIXELS, stamp))
        active.wait_for(lambda: f'{stamp / 1e9:.6f} s is not after' in active.values()['last rejection'], 'a rejection')   # noqa: B023
    assert_answers(active)
    assert late not in active.poses and active.heard.count(last) == 1


def test_parameters_are_refused_while_active_and_out_of_range(active):
    result = active.set_parameter('map', 'other')
    assert not result.successful and 'map' in result.reason and 'deactivate' in result.reason
    assert not active.set_parameter('diagnostics_period_s', 1000.0).successful


def test_the_counts_add_up(active):
    assert_answers(active)
    sent, before = 5, frame_counts(active)[0]
    for stamp in [0, *(next_stamp() for _ in range(sent - 1))]:
        active.publish('image', image_message(PIXELS, stamp))
    active.wait_for(lambda: frame_counts(active)[0] >= before + sent
                    and frame_counts(active)[0] == sum(frame_counts(active)[1:]), 'every frame accounted for')
