"""Overlay, path, cloud and cameras over real DDS: right, only while somebody listens, and never in the way."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
import rclpy
from nav_msgs.msg import Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from ros_peer import set_stamp
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from aprloc_ros.camera import Camera
from aprloc_ros.fields.views import render_view
from aprloc_ros.geometry import se3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.ros import display as display_module
from aprloc_ros.ros.display import PATH_POSES, Display, cloud_message, image_message
from aprloc_ros.tracking.answer import Answer
from aprloc_ros.viewing.cloud import frustum_lines, map_cloud
from aprloc_ros.viewing.overlay import overlay_image

PATIENCE_S = 300
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PIXELS = np.random.default_rng(3).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)


class Audience:
    """A node that shows, and another that may look."""

    def __init__(self):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node('relocalize', context=self._context)
        self.listener = rclpy.create_node('audience', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.listener)
        self.heard = {}

    def close(self):
        self.listener.destroy_node()
        self.node.destroy_node()
        self._context.try_shutdown()

    def listen(self, message_type, topic, qos=10):
        messages = self.heard[topic] = []
        self.listener.create_subscription(message_type, f'/relocalize/{topic}', messages.append, qos)
        publisher, = (publisher for publisher in self.node.publishers if publisher.topic_name == f'/relocalize/{topic}')
        self.wait_for(lambda: publisher.get_subscription_count() == 1)
        return messages

    def wait_for(self, condition):
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f'waited {PATIENCE_S} s'
            self._executor.spin_once(timeout_sec=0.02)


@pytest.fixture
def audience():
    audience = Audience()
    yield audience
    audience.close()


@pytest.fixture(scope='module')
def bundle(tiny_map):
    return load_map(tiny_map, 'cpu')


@pytest.fixture
def display(audience, bundle):
    display = Display(audience.node, bundle, 'place')
    yield display
    display.close()


@pytest.fixture(scope='module')
def answer(bundle):
    estimate = Localizer(bundle, 'cpu').localize(PIXELS)
    shift = se3_exp(torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], dtype=torch.float64))
    return Answer(estimate.T_map_cam @ shift, estimate.covariance, estimate)


def header(time_ns):
    return set_stamp(Image(header=Header(frame_id='camera')), time_ns).header


def pixels_of(message):
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def test_the_overlay_shows_the_query_and_what_the_map_shows_at_the_answer(audience, display, bundle, answer):
    heard = audience.listen(Image, 'overlay')
    display.show(PIXELS, answer, header(5 * 10**9 + 7), None)
    audience.wait_for(lambda: heard)
    message, = heard
    assert message.encoding == 'rgb8' and message.step == 3 * message.width
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (5, 7, 'camera')
    rgb, _ = render_view(bundle.field, bundle.manifest.scene, CAMERA, answer.estimate.T_map_cam,
                         answer.estimate.histogram)
    rendering = (rgb * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels_of(message), overlay_image(PIXELS, rendering))


def test_the_query_is_warped_from_the_camera_that_took_it(audience, display, answer):
    heard = audience.listen(Image, 'overlay')
    wide = np.zeros((CAMERA.height, 3 * CAMERA.width, 3), np.uint8)
    wide[:, CAMERA.width:2 * CAMERA.width] = PIXELS
    camera = Camera(3 * CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx + CAMERA.width, CAMERA.cy)
    display.show(PIXELS, answer, header(10**9), None)
    audience.wait_for(lambda: len(heard) == 1)
    display.show(wide, answer, header(2 * 10**9), camera)
    audience.wait_for(lambda: len(heard) == 2)
    assert np.array_equal(pixels_of(heard[0]), pixels_of(heard[1]))


def test_nothing_is_painted_while_nobody_looks(audience, display, answer, monkeypatch):
    painted = []
    monkeypatch.setattr(display_module, 'render_view', lambda *arguments: painted.append(1) or render_view(*arguments))
    for second in range(1, 4):
        display.show(PIXELS, answer, header(second * 10**9), None)
    heard = audience.listen(Path, 'path')
    display.show(PIXELS, answer, header(4 * 10**9), None)
    audience.wait_for(lambda: heard)
    assert not painted and len(heard[0].poses) == 4   # the path knows what it was before, the field was left alone


def test_the_path_is_that_of_the_robot_in_the_maps_frame_and_stays_bounded(audience, display, answer):
    count = 2 * PATH_POSES + 10
    for index in range(1, count):
        display.show(PIXELS, answer, header(index * 10**6), None)
    heard = audience.listen(Path, 'path')
    display.show(PIXELS, answer, header(count * 10**6), None)
    audience.wait_for(lambda: heard)
    message = heard[0]
    assert message.header.frame_id == 'place'
    stamps = [pose.header.stamp.sec * 10**9 + pose.header.stamp.nanosec for pose in message.poses]
    assert PATH_POSES // 2 < len(stamps) <= PATH_POSES and stamps == sorted(stamps)
    assert stamps[0] == 10**6 and stamps[-1] == count * 10**6
    position = message.poses[-1].pose.position
    np.testing.assert_allclose((position.x, position.y, position.z), answer.T_map_base[:3, 3])


def test_showing_never_waits_for_the_picture(audience, display, answer, monkeypatch):
    heard = audience.listen(Image, 'overlay')
    all_shown = threading.Event()
    monkeypatch.setattr(display_module, 'render_view', lambda *arguments: all_shown.wait(PATIENCE_S) and render_view(*arguments))
    for index in range(1, 21):
        display.show(PIXELS, answer, header(index * 10**9), None)
    all_shown.set()
    audience.wait_for(lambda: heard and heard[-1].header.stamp.sec == 20)
    assert len(heard) <= 2   # the one in hand and the newest


def test_a_picture_that_fails_is_a_line_and_the_next_one_comes(audience, display, answer, monkeypatch):
    heard = audience.listen(Image, 'overlay')
    failed = threading.Event()
    monkeypatch.setattr(display_module, 'overlay_image', lambda *arguments: failed.set() or 1 / 0)
    display.show(PIXELS, answer, header(10**9), None)
    assert failed.wait(PATIENCE_S)
    monkeypatch.undo()
    display.show(PIXELS, answer, header(2 * 10**9), None)
    audience.wait_for(lambda: heard)
    assert heard[0].header.stamp.sec == 2


def test_the_map_is_published_once_and_kept_for_who_comes_late(audience, display, bundle):
    views = bundle.manifest.scene.T_map_scene @ se3_exp(
        0.2 * torch.randn(9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    display.publish_map(views)
    display._mapper.join()
    cloud = audience.listen(PointCloud2, 'map_cloud', LATCHED)
    cameras = audience.listen(MarkerArray, 'map_cameras', LATCHED)
    audience.wait_for(lambda: cloud and cameras)
    expected = map_cloud(bundle.field, bundle.manifest.scene, CAMERA, views)
    assert (cloud[0].header.frame_id, cloud[0].width, cloud[0].height) == ('place', len(expected.xyz), 1)
    assert bytes(cloud[0].data) == bytes(cloud_message(expected, Header()).data)
    marker, = cameras[0].markers
    assert (marker.type, marker.header.frame_id) == (Marker.LINE_LIST, 'place') and marker.scale.x > 0
    lines = frustum_lines(CAMERA, views, 0.03 * bundle.manifest.scene.pose_unit_m).reshape(-1, 3)
    np.testing.assert_allclose([(p.x, p.y, p.z) for p in marker.points], lines, atol=1e-6)
    assert len(cloud) == len(cameras) == 1


def test_the_bytes_of_a_cloud_are_what_its_fields_say():
    from aprloc_ros.viewing.cloud import Cloud
    message = cloud_message(Cloud(torch.tensor([[1.5, -2.0, 3.0], [4.0, 5.0, 6.0]]),
                                  torch.tensor([[255, 1, 2], [3, 4, 200]], dtype=torch.uint8)), Header())
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1), ('rgb', 12, 7, 1)]
    assert (message.point_step, message.row_step, len(message.data)) == (16, 32, 32)
    rows = np.frombuffer(bytes(message.data), '<f4').reshape(2, 4)
    assert rows[:, :3].tolist() == [[1.5, -2.0, 3.0], [4.0, 5.0, 6.0]]
    packed = np.frombuffer(bytes(message.data), np.uint8).reshape(2, 16)[:, 12:]
    assert packed.tolist() == [[2, 1, 255, 0], [200, 4, 3, 0]]   # little-endian 0x00RRGGBB


def test_an_image_message_of_a_view_that_is_not_contiguous():
    message = image_message(PIXELS[:, ::2], Header())
    assert (message.height, message.width, message.step) == (CAMERA.height, 32, 96)
    assert np.array_equal(pixels_of(message), PIXELS[:, ::2])


def test_closing_stops_the_cloud_and_takes_the_topics_away(audience, bundle, monkeypatch):
    display = Display(audience.node, bundle, 'place')
    begun = threading.Event()
    monkeypatch.setattr(display_module, 'cloud_parts', lambda *arguments: (begun.set() for _ in itertools.count()))
    display.publish_map(bundle.manifest.scene.T_map_scene.expand(100, 4, 4))
    assert begun.wait(PATIENCE_S)
    display.close()   # returns, though this cloud never would
    topics = {'/relocalize/overlay', '/relocalize/path', '/relocalize/map_cloud', '/relocalize/map_cameras'}
    own = {name for name, _ in audience.node.get_publisher_names_and_types_by_node('relocalize', '/')}
    assert not own & topics
