"""What the node makes of one frame, with a localizer that answers as told."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from builtin_interfaces.msg import Time
from ros_peer import PIXELS, camera_info_message, image_message
from test_node_tf import odometry_message

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import adjoint, se3_exp
from aprloc_ros.ros.frames import Setup, read_picture
from aprloc_ros.ros.odometry import OdometryBuffer
from aprloc_ros.ros.parameters import NodeParameters
from aprloc_ros.tracking.answer import FrameRejected, answer_picture
from aprloc_ros.tracking.tracker import Tracker, TrackingOptions

T_BASE_CAM = se3_exp(torch.tensor([0.5, 0.1, 1.2, -1.2, 1.0, -1.0], dtype=torch.float64))
T_MAP_CAM = se3_exp(torch.tensor([3.0, 1.0, 0.2, 0.4, 0.1, 2.0], dtype=torch.float64))
COVARIANCE = torch.diag(torch.tensor([1.0, 2.0, 3.0, 0.1, 0.2, 0.3], dtype=torch.float64))


class Localizer:
    """Answers with T_MAP_CAM and remembers what it was asked."""

    def __init__(self, status='refined'):
        self.status, self.asked = status, []

    def localize(self, image, camera=None, starts=None):
        self.asked.append((image, camera, starts))
        return SimpleNamespace(T_map_cam=T_MAP_CAM, covariance=COVARIANCE, status=self.status, score=0.25,
                               timings_ms={'refine': 5.0, 'total': 7.0}, reason='unsure', text='score 0.250')


def setup(localizer, **parameters):
    return Setup(NodeParameters(**parameters), localizer, 'map', lambda frame_id, stamp: T_BASE_CAM, None, None, None)


def picture(localizer, pixels=PIXELS, **parameters):
    return read_picture(image_message(pixels, 7), camera_info_message(CAMERA), setup(localizer, **parameters))


def answer_to(localizer, start=None):
    tracker = Tracker(TrackingOptions(confirmations=1))
    if start is not None:
        tracker.expect(start, 100 * torch.eye(6, dtype=torch.float64))
    return answer_picture(picture(localizer), 7.0, lambda delay_s: None, localizer, tracker)


def test_odometry_that_comes_while_an_image_is_answered_is_what_the_answer_is_judged_by():
    """Between two messages, at a stamp after all that had come when the image came."""
    buffer, tracker, localizer = OdometryBuffer('base_link'), Tracker(TrackingOptions(confirmations=1)), Localizer()

    def send(time_s):
        buffer.add(odometry_message(se3_exp(torch.tensor([time_s ** 2, 0.0, 0.0, 0.0, 0.0, 0.0])).numpy(), round(time_s * 1e9)))

    def localize(*asked, **options):
        send(7.05)
        return localizer.localize(*asked, **options)
    for time_s in (6.85, 6.95):
        send(time_s)
    heard, stamp = [], Time(sec=7)

    def T_odom_base(delay_s):
        heard.append(buffer.at(stamp).T_odom_base)
        return heard[-1]
    answer_picture(picture(localizer), 7.0, T_odom_base, SimpleNamespace(localize=localize), tracker)
    x_m = [T[0, 3].item() for T in heard]
    assert x_m == pytest.approx([6.95 ** 2 + 0.05 * (6.95 + 6.85), (6.95 ** 2 + 7.05 ** 2) / 2])
    torch.testing.assert_close(tracker._belief.T_odom_base, heard[-1])


def test_a_start_goes_to_the_camera_and_the_answer_comes_back_to_the_base():
    localizer = Localizer()
    start = se3_exp(torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64))
    answer = answer_to(localizer, start)
    (image, camera, starts), = localizer.asked
    np.testing.assert_array_equal(image, PIXELS)
    assert camera == CAMERA
    torch.testing.assert_close(starts, (start @ T_BASE_CAM)[None])
    torch.testing.assert_close(answer.T_map_base @ T_BASE_CAM, T_MAP_CAM)
    A = adjoint(T_BASE_CAM)   # of a camera's error, in the axes of base
    torch.testing.assert_close(answer.covariance, A @ COVARIANCE @ A.T)


def test_the_frame_of_an_image_may_have_a_leading_slash_as_tf_had_it_once():
    asked = []
    told = dataclasses.replace(setup(Localizer()), extrinsics=lambda frame_id, stamp: asked.append(frame_id))
    read_picture(image_message(PIXELS, 7, frame_id='/camera_optical'), camera_info_message(CAMERA), told)
    assert asked == ['camera_optical']


def test_a_camera_that_moves_is_looked_for_when_its_image_was_taken():
    asked = []
    told = dataclasses.replace(setup(Localizer()), extrinsics=lambda frame_id, stamp: asked.append(stamp) or T_BASE_CAM)
    for late_s in (0.0, 0.2, -0.2):
        read_picture(image_message(PIXELS, 7 * 10**9), camera_info_message(CAMERA), told, late_s)
    assert asked == [Time(sec=7), Time(sec=6, nanosec=800_000_000), Time(sec=7, nanosec=200_000_000)]


def test_without_a_start_the_answer_is_global():
    localizer = Localizer()
    answer_to(localizer)
    assert localizer.asked[0][2] is None


def test_an_answer_that_the_map_does_not_believe_is_no_pose():
    localizer = Localizer('rejected')
    with pytest.raises(FrameRejected, match='score 0.250') as caught:
        answer_to(localizer)
    assert caught.value.reason == 'unsure' and caught.value.estimate.score == 0.25


@pytest.mark.parametrize('level', [0, 128, 255])
def test_an_image_that_shows_nothing_never_reaches_the_networks(level):
    noise = np.random.default_rng(0).normal(level, 1.0, PIXELS.shape).clip(0, 255).astype(np.uint8)
    with pytest.raises(FrameRejected, match='min_contrast') as caught:
        picture(Localizer(), noise)
    assert caught.value.reason == 'image'
    picture(Localizer(), noise, min_contrast=0.0)
    picture(Localizer(), (noise // 2 + PIXELS // 8).astype(np.uint8))


def test_the_robot_has_another_frame_than_the_map():
    with pytest.raises(AprlocError, match="map_frame and base_frame are both 'map'"):
        setup(Localizer(), base_frame='map')
