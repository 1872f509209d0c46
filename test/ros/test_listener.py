"""Why a topic is silent, over real DDS: nobody, another transport, another type, another QoS, another topic."""

import itertools
import re
import time

import pytest

rclpy = pytest.importorskip('rclpy', reason='ROS is not installed')
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from aprloc_ros.ros.inputs import Inputs
from aprloc_ros.ros.listener import Listener
from aprloc_ros.ros.parameters import NodeParameters

PATIENCE_S = 300.0
RELIABLE, BEST_EFFORT = (QoSProfile(depth=1, reliability=r) for r in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT))
_names = itertools.count()


@pytest.fixture(scope='module')
def nodes():
    """The one that listens, and a camera, in one process but strangers to each other."""
    contexts, pair = [rclpy.Context(), rclpy.Context()], []
    for context, name in zip(contexts, ('listener', 'camera'), strict=True):
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        pair.append(rclpy.create_node(name, context=context, namespace='robot'))
    executor = SingleThreadedExecutor(context=contexts[0])
    executor.add_node(pair[0])
    yield *pair, executor
    for context, node in zip(contexts, pair, strict=True):
        node.destroy_node()
        context.try_shutdown()


@pytest.fixture
def topic():
    """A name that no other test has."""
    return f'cam{next(_names)}/image'


def said(listener, words):
    """What the listener says of its silence, once it has the words in it."""
    end_s = time.monotonic() + PATIENCE_S
    while words not in (text := listener.silence()):
        assert time.monotonic() < end_s, text
        time.sleep(0.05)
    return text


def test_a_closed_one_still_says_why_it_was_silent(nodes, topic):
    """As the frame in hand may ask while its node is deactivated."""
    listener = Listener(nodes[0], 'image', Image, topic, lambda message: None, RELIABLE)
    before = listener.silence()
    listener.close()
    assert listener.silence() == before and topic in before and listener.mixture() == '' and topic in listener.described


def test_nobody_publishes(nodes, topic):
    listener = Listener(nodes[0], 'image', Image, topic, print, RELIABLE)
    assert listener.silence() == f'no image yet on /robot/{topic}: nobody publishes it'
    listener.close()


@pytest.mark.parametrize('wanted, there, cure', [
    ('', '/compressed', 'set compressed:=true (image_transport: compressed)'),
    ('/compressed', '', 'set compressed:=false (image_transport: raw)')])
def test_the_other_transport_is_published(nodes, topic, wanted, there, cure):
    node, camera, _ = nodes
    listener = Listener(node, 'image', CompressedImage if wanted else Image, topic + wanted, print, RELIABLE)
    publisher = camera.create_publisher(CompressedImage if there else Image, topic + there, 1)
    text = said(listener, 'but there are publishers')
    assert text == (f'no image yet on /robot/{topic}{wanted}: nobody publishes it, but there are publishers on '
                    f'/robot/{topic}{there}: {cure}')
    camera.destroy_publisher(publisher)
    listener.close()


def test_such_messages_are_on_another_topic(nodes, topic):
    node, camera, _ = nodes
    listener = Listener(node, 'image', Image, topic, print, RELIABLE)
    publisher = camera.create_publisher(Image, f'{topic}_raw', 1)
    assert said(listener, f'/robot/{topic}_raw').startswith(
        f'no image yet on /robot/{topic}: nobody publishes it; sensor_msgs/msg/Image is on /robot/{topic}_raw')
    camera.destroy_publisher(publisher)
    listener.close()


def test_the_topic_has_another_type(nodes, topic):
    node, camera, _ = nodes
    listener = Listener(node, 'image', Image, topic, print, RELIABLE)
    publisher = camera.create_publisher(CompressedImage, topic, 1)
    said(listener, 'it is published as sensor_msgs/msg/CompressedImage, not as sensor_msgs/msg/Image')
    camera.destroy_publisher(publisher)
    listener.close()


def test_the_name_of_the_compressed_topic_is_not_that_of_the_image(nodes, topic):
    node, camera, _ = nodes
    publisher = camera.create_publisher(CompressedImage, f'{topic}/compressed', 1)
    raw = Listener(node, 'image', Image, f'{topic}/compressed', print, RELIABLE)
    said(raw, f'it is published as sensor_msgs/msg/CompressedImage, not as sensor_msgs/msg/Image; set image:=/robot/{topic} '
              'and compressed:=true')
    doubled = Listener(node, 'image', CompressedImage, f'{topic}/compressed/compressed', print, RELIABLE)
    said(doubled, f'nobody publishes it; /compressed is added to the topic image: set image:=/robot/{topic}')
    camera.destroy_publisher(publisher)
    raw.close()
    doubled.close()


def test_the_publisher_offers_less_than_is_asked_for(nodes, topic):
    node, camera, _ = nodes
    listener = Listener(node, 'image', Image, topic, print, RELIABLE)
    publisher = camera.create_publisher(Image, topic, BEST_EFFORT)
    assert 'set the parameter reliability to best_effort' in said(listener, 'offers another QoS')
    camera.destroy_publisher(publisher)
    listener.close()


@pytest.mark.parametrize('required', [True, False])
def test_camera_info_of_zeros_counts_for_none_where_none_is_required(nodes, monkeypatch, required):
    """So that the map's camera is taken, as who reads that this camera is not calibrated is told to do."""
    class Heard:
        def __init__(self, node, what, message_type, topic, on_message, qos):
            if what == 'camera_info':
                said.append(on_message)
    said = []
    monkeypatch.setattr('aprloc_ros.ros.inputs.Listener', Heard)
    inputs = Inputs(nodes[0], NodeParameters(require_camera_info=required), None, print, print)
    for k, is_taken in ((252.0, True), (0.0, required), (252.0, True)):
        message = CameraInfo(k=[k, 0.0, 16.0, 0.0, k, 12.0, 0.0, 0.0, float(k > 0)])
        said[0](message)
        assert inputs.camera_info(Header()) is (message if is_taken else None)


def test_what_was_latched_before_somebody_listened_is_told(nodes, topic):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = nodes[1].create_publisher(Image, topic, latched)
    publisher.publish(Image())
    listener = Listener(nodes[0], 'image', Image, topic, print, BEST_EFFORT)
    said(listener, ' latches it, and may have said it before this node listened')
    listener.close()
    nodes[1].destroy_publisher(publisher)


def test_what_was_heard_is_no_silence_until_it_ends(nodes, topic):
    node, camera, executor = nodes
    heard = []
    listener = Listener(node, 'image', Image, topic, heard.append, RELIABLE)
    publisher = camera.create_publisher(Image, topic, RELIABLE)
    said(listener, ' publishes it, but nothing arrives')
    end_s = time.monotonic() + PATIENCE_S
    while not heard:
        assert time.monotonic() < end_s
        publisher.publish(Image())
        executor.spin_once(timeout_sec=0.05)
    assert listener.silence(PATIENCE_S) == ''
    assert re.match(r'no image for \d+\.\d s on ', listener.silence(0.0))
    camera.destroy_publisher(publisher)
    listener.close()


def test_several_publishers_of_one_topic_are_named(nodes, topic):
    listener = Listener(nodes[0], 'image', Image, topic, print, RELIABLE)
    publishers = [nodes[1].create_publisher(Image, topic, RELIABLE)]
    said(listener, 'camera publishes it')
    assert listener.mixture() == ''
    publishers.append(nodes[1].create_publisher(Image, topic, RELIABLE))
    end_s = time.monotonic() + PATIENCE_S
    while (text := listener.mixture()) != f'/robot/{topic} has 2 publishers (camera, camera), whose messages mix':
        assert time.monotonic() < end_s, text
        time.sleep(0.05)
    for publisher in publishers:
        nodes[1].destroy_publisher(publisher)
    listener.close()
