"""A bag over real DDS into another process, which answers, rejects and stays silent as told."""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.command_line.domain import free_domain
from aprloc_ros.command_line.node_process import stop_process
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bags import BagFrame, write_bag

player = pytest.importorskip('aprloc_ros.ros.player', reason='ROS is not installed')

CAMERA = Camera(320, 240, 300.0, 300.0, 159.5, 119.5)
# Answers each image with its first pixel as the position, the camera's focal length as a variance; rejects every third.
# Between two topics there is no order: an image waits for the camera_info of its stamp, and answers for who listens to them.
ECHO = textwrap.dedent('''
    import rclpy, sys
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
    from sensor_msgs.msg import CameraInfo, Image
    rclpy.init()
    node = rclpy.create_node('relocalize')
    full = node.create_publisher(PoseWithCovarianceStamped, 'pose_with_covariance', 10)
    bare = node.create_publisher(PoseStamped, 'pose', 10)
    diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
    images, infos, waiting, rejected = {}, {}, [], 0
    def report():
        values = {'state': sys.argv[1], 'frames rejected': str(rejected), 'frames superseded': '0'}
        level, text = (DiagnosticStatus.ERROR, 'no map') if sys.argv[1] == 'unconfigured' else (DiagnosticStatus.OK, '')
        diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(
            level=level, name='relocalize', message=text,
            values=[KeyValue(key=k, value=v) for k, v in values.items()])]))
        send()
    def key(message):
        return message.header.stamp.sec, message.header.stamp.nanosec
    def keep(kept, message):
        kept[key(message)] = message
        if key(message) in images and key(message) in infos:
            answer(images.pop(key(message)), infos[key(message)])
    def answer(image, info):
        global rejected
        if (10 * image.header.stamp.sec + image.header.stamp.nanosec // 10 ** 8) % 3 == 0:
            rejected += 1
            return
        message = PoseWithCovarianceStamped(header=image.header)
        p = message.pose.pose
        p.position.x, p.position.y, p.position.z = (float(v) for v in image.data[:3])
        message.pose.covariance[0] = info.k[0]
        waiting.append((message, PoseStamped(header=image.header, pose=p)))
        send()
    def send():
        while waiting and full.get_subscription_count() and bare.get_subscription_count():
            for publisher, message in zip((full, bare), waiting.pop(0)):
                publisher.publish(message)
    node.create_subscription(CameraInfo, 'camera_info', lambda message: keep(infos, message), 100)
    node.create_subscription(Image, 'image', lambda message: keep(images, message), 100)
    node.create_timer(0.1, report)
    rclpy.spin(node)
''')


@pytest.fixture(autouse=True)
def own_domain(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(free_domain()))


@pytest.fixture
def echo(request):
    process = subprocess.Popen([sys.executable, '-c', ECHO, getattr(request, 'param', 'active')])
    yield process
    stop_process(process)
    assert process.poll() is not None


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp('bags') / 'bag'
    write_bag(path, (BagFrame(10 ** 9 + i * 10 ** 8, rng.integers(0, 256, (240, 320, 3), np.uint8), CAMERA,
                              torch.eye(4, dtype=torch.float64)) for i in range(12)))
    return path


def test_every_frame_arrives_and_every_answer_comes_back(bag, echo):
    sent = []
    start_s = time.perf_counter()
    playback = player.play(bag, rate=2.0, settle_s=60.0, on_sent=sent.append)
    assert time.perf_counter() - start_s > 0.55            # 1.1 s of bag at twice its pace, at least
    assert sent == list(range(1, 13))
    stamps_ns = [10 ** 9 + i * 10 ** 8 for i in range(12)]
    assert sorted(playback.answers) == [stamp for i, stamp in enumerate(stamps_ns) if i % 3 != 2]
    assert (playback.sent, playback.rejected, playback.superseded) == (12, 4, 0)
    rng = np.random.default_rng(0)
    first_pixels = {stamp: rng.integers(0, 256, (240, 320, 3), np.uint8)[0, 0] for stamp in stamps_ns}
    for stamp, answer in playback.answers.items():
        np.testing.assert_array_equal(answer.T_map_base[:3, 3], first_pixels[stamp])
        torch.testing.assert_close(answer.T_map_base, playback.poses[stamp])
        assert answer.covariance[0, 0] == 300 and answer.covariance[1:].abs().max() == 0
        assert answer.latency_s > 0


def test_no_node_is_a_clear_error(bag):
    with pytest.raises(AprlocError, match='no active relocalize node listens'):
        player.play(bag, match_timeout_s=0.5)


@pytest.mark.parametrize('echo', ['unconfigured'], indirect=True)
def test_a_node_in_trouble_is_quoted(bag, echo):
    with pytest.raises(AprlocError, match='the node is unconfigured: no map'):
        player.play(bag)


def test_a_stop_in_the_middle_is_passed_on(bag, echo):
    def check_alive():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        player.play(bag, check_alive=check_alive)


@pytest.mark.parametrize('rate', [0.0, -1.0, float('nan'), 1000.0])
def test_impossible_rates(bag, rate):
    with pytest.raises(AprlocError, match='rate'):
        player.play(bag, rate)


@pytest.mark.parametrize('stubborn', [False, True])
def test_a_process_is_always_reaped(stubborn, monkeypatch):
    code = 'import signal, time; print("up", flush=True); '
    if stubborn:
        code = 'import signal; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; ' + code
    process = subprocess.Popen([sys.executable, '-c', code + 'time.sleep(60)'], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b'up\n'
    wait = process.wait
    monkeypatch.setattr(process, 'wait', lambda patience_s=None: wait(patience_s and 0.5 if stubborn else patience_s))
    stop_process(process)
    assert process.returncode in ((-signal.SIGKILL,) if stubborn else (1, -signal.SIGINT))
