"""The real node in its own process over real DDS: its lifecycle, its load, its end, and what it survives."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
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
from sensor_msgs.msg import CompressedImage

from aprloc_ros.ros_messages import rigid_transform, stamp_ns


@pytest.fixture
def run(tmp_path, peer, tiny_map):
    """Starts a node with the tiny map; interrupted at the end, when it must leave quietly."""
    running = []

    def start(script=None, **parameters):
        peer.forget()
        log = tmp_path / f'node{len(running)}.log'
        defaults = {'map': 'tiny', 'map_dir': tiny_map.parent, 'device': 'cpu', 'reliability': 'reliable',
                    'diagnostics_period_s': 0.1, 'extrinsics': 'parameters'}
        running.append((start_node(log, {**defaults, **parameters}, script), log))
        return log

    start.process = lambda: running[-1][0]
    yield start
    for process, log in running:
        code = process.poll() if process.poll() is not None else interrupt(process)
        assert code == 0 and 'Traceback' not in log.read_text(), log.read_text()


def test_an_image_before_any_camera_info_is_refused_unless_the_maps_camera_may_be_taken(run, peer):
    run()
    peer.wait_until_active()
    peer.publish('image', image_message(PIXELS, next_stamp()))
    peer.wait_for(lambda: 'none has arrived' in peer.values().get('last rejection', ''), 'a rejection')
    assert not peer.poses
    for transition in ('deactivate', 'cleanup'):
        assert peer.transition(transition)
    assert peer.set_parameter('require_camera_info', False).successful
    for transition in ('configure', 'activate'):
        assert peer.transition(transition)
    peer.wait_until_active()
    stamp = next_stamp()
    peer.publish('image', image_message(PIXELS, stamp))
    peer.wait_for(lambda: stamp in peer.poses, 'a pose')


def test_lifecycle(run, peer):
    run(autostart=False)
    assert peer.state() == 'unconfigured'
    assert peer.transition('configure') and peer.state() == 'inactive'
    peer.publish('camera_info', camera_info_message(CAMERA))
    peer.publish('image', image_message(PIXELS, next_stamp()))
    peer.spin_for(0.5)
    assert not peer.poses
    assert peer.transition('activate') and peer.state() == 'active'
    peer.wait_until_active()
    assert_answers(peer)
    assert peer.transition('deactivate') and peer.state() == 'inactive'
    peer.forget()
    peer.publish('image', image_message(PIXELS, next_stamp()))
    peer.spin_for(0.5)
    assert not peer.poses
    assert peer.transition('activate')
    peer.wait_until_active()
    assert_answers(peer)
    assert peer.transition('deactivate') and peer.transition('cleanup') and peer.state() == 'unconfigured'
    assert peer.transition('shutdown') and peer.state() == 'finalized'


def test_without_a_map_the_node_waits_and_takes_the_map_that_appears(run, peer, tmp_path, tiny_map):
    log = run(map='later', map_dir=tmp_path / 'maps')
    status = peer.wait_for_diagnostic(lambda s: s.level == s.ERROR, 'an error')
    assert 'cannot configure: no map later in' in status.message and 'aprloc build later' in status.message
    assert peer.state() == 'unconfigured'
    assert log.read_text().count('no map later') == 1
    shutil.copytree(tiny_map, tmp_path / 'maps/later')
    assert peer.transition('configure') and peer.transition('activate')
    peer.wait_until_active()
    assert_answers(peer)


@pytest.mark.parametrize('file, content', [
    ('map.yaml', b'not: [a map'), ('map.yaml', b'\x00\xff'), ('regressor.safetensors', b'\x00' * 100)])
def test_a_corrupt_map_is_one_line_and_the_node_survives(run, peer, tmp_path, tiny_map, file, content):
    maps = tmp_path / 'maps'
    shutil.copytree(tiny_map, maps / 'tiny')
    (maps / 'tiny' / file).write_bytes(content)
    run(map_dir=maps)
    status = peer.wait_for_diagnostic(lambda s: s.level == s.ERROR, 'an error')
    assert file in status.message and '\n' not in status.message
    assert peer.state() == 'unconfigured'
    shutil.copy(tiny_map / file, maps / 'tiny' / file)
    assert peer.transition('configure') and peer.state() == 'inactive'


def test_compressed_images(run, peer):
    run(image_transport='compressed')
    peer.wait_until_active('image/compressed')
    peer.publish('camera_info', camera_info_message(CAMERA))
    png = cv2.imencode('.png', PIXELS[..., ::-1])[1].tobytes()
    broken, good = next_stamp(), next_stamp()
    peer.publish('image/compressed', set_stamp(CompressedImage(format='png', data=png[:-200]), broken))
    peer.wait_for(lambda: 'is damaged or ends early' in peer.values().get('last rejection', ''), 'a rejection')
    peer.publish('image/compressed', set_stamp(CompressedImage(format='png', data=png), good))
    peer.wait_for(lambda: good in peer.poses, 'a pose')
    assert broken not in peer.poses


SLOW = '''
import sys, time
from aprloc_ros import localizer, relocalize
quick = localizer.Localizer.localize
localizer.Localizer.localize = lambda *arguments: (time.sleep(0.3), quick(*arguments))[1]
sys.exit(relocalize.main())
'''


def test_the_first_frame_waits_for_a_camera_info_that_is_late(run, peer):
    run()
    peer.wait_until_active()
    stamp = next_stamp()
    peer.publish('image', image_message(PIXELS, stamp))
    peer.wait_for(lambda: peer.values().get('frames received') == '1', 'the image')
    peer.publish('camera_info', camera_info_message(CAMERA))
    peer.wait_for(lambda: stamp in peer.poses, 'a pose')
    assert frame_counts(peer)[3] == 0


def test_under_load_only_the_newest_frame_is_answered_and_callbacks_do_not_wait(run, peer):
    run(SLOW)
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))
    peer.spin_for(0.2)
    stamps = [next_stamp() for _ in range(40)]
    for stamp in stamps:
        peer.publish('image', image_message(PIXELS, stamp))
        peer.spin_for(0.03)
    peer.wait_for(lambda: stamps[-1] in peer.poses, 'the pose of the newest frame')
    peer.wait_for(lambda: sum(frame_counts(peer)[1:]) == 40, 'every frame accounted for')
    received, answered, superseded, rejected = frame_counts(peer)
    assert received == 40 and rejected == 0
    assert answered == len(peer.heard) < 15 and superseded == 40 - answered
    assert peer.heard == sorted(peer.heard)


OUT_OF_MEMORY = '''
import sys
import torch
from aprloc_ros import frames, localizer, relocalize
gpu = torch.device('meta')  # stands for a GPU, which no machine of the tests has
prepare = localizer.Localizer.__init__
def on_gpu(self, bundle, device):
    prepare(self, bundle, 'cpu')
    self._device = gpu
    failures = [torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')]
    def fail_once(module, inputs):
        if failures:
            raise failures.pop()
    self._regressor.register_forward_pre_hook(fail_once)
localizer.Localizer.__init__ = on_gpu
frames.resolve_device = lambda name: gpu
sys.exit(relocalize.main())
'''


def test_when_cuda_is_out_of_memory_the_cpu_answers_and_the_node_says_so(run, peer):
    log = run(OUT_OF_MEMORY)
    peer.wait_until_active()
    assert peer.values()['device'] == 'meta'
    assert_answers(peer)
    status = peer.wait_for_diagnostic(lambda s: 'out of memory' in s.message, 'a diagnostic')
    assert status.level == status.WARN and 'localising on the cpu' in status.message
    assert peer.values()['device'] == 'cpu'
    assert_answers(peer)
    assert log.read_text().count('ran out of memory') == 1


FAILING = '''
import sys
from aprloc_ros import localizer, relocalize
quick, failures = localizer.Localizer.localize, [RuntimeError('the driver hung up')]
def localize(*arguments):
    if failures:
        raise failures.pop()
    return quick(*arguments)
localizer.Localizer.localize = localize
sys.exit(relocalize.main())
'''


def test_an_unforeseen_failure_costs_one_frame(run, peer):
    run(FAILING)
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))
    peer.publish('image', image_message(PIXELS, next_stamp()))
    peer.wait_for(lambda: 'the driver hung up' in peer.values().get('last rejection', ''), 'a rejection')
    assert_answers(peer)


# Registers a tf2_msgs that is not installed here: its messages leave as the poses of a topic of the test's.
RECORD_TF = '''
import sys, types
from geometry_msgs.msg import TransformStamped
from aprloc_ros import relocalize, transforms
from geometry_msgs.msg import PoseStamped
class TFMessage:
    def __init__(self, transforms):
        self.transforms = transforms
class Recorder:
    def __init__(self, publisher):
        self.publisher = publisher
    def publish(self, message):
        for t in message.transforms:
            out = PoseStamped(header=t.header)
            out.header.frame_id += ' ' + t.child_frame_id
            v, out.pose.orientation = t.transform.translation, t.transform.rotation
            out.pose.position.x, out.pose.position.y, out.pose.position.z = v.x, v.y, v.z
            self.publisher.publish(out)
module = types.ModuleType('tf2_msgs.msg')
module.TFMessage = TFMessage
sys.modules.update({'tf2_ros': None, 'tf2_msgs': types.ModuleType('tf2_msgs'), 'tf2_msgs.msg': module})
create = transforms.Node.create_publisher
def create_publisher(self, message_type, topic, *arguments, **keywords):
    if message_type is TFMessage:
        return Recorder(create(self, PoseStamped, 'recorded' + topic, *arguments, **keywords))
    return create(self, message_type, topic, *arguments, **keywords)
transforms.Node.create_publisher = create_publisher
sys.exit(relocalize.main())
'''


@pytest.fixture
def transforms(peer):
    """Transforms that the node sent to /tf, as (stamp, frames, T)."""
    heard = []
    subscription = peer._node.create_subscription(
        PoseStamped, 'recorded/tf', lambda m: heard.append((
            stamp_ns(m.header.stamp), m.header.frame_id, rigid_transform(m.pose.position, m.pose.orientation, 'tf'))),
        100)
    yield heard
    peer._node.destroy_subscription(subscription)


def test_transform_to_the_base(run, peer, transforms):
    log = run(RECORD_TF, publish_tf='map_to_base', base_frame='base')
    peer.wait_until_active()
    stamp = assert_answers(peer)
    peer.wait_for(lambda: transforms, 'a transform')
    pose = peer.poses[stamp].pose
    assert transforms[0][:2] == (stamp, 'map base')
    torch.testing.assert_close(transforms[0][2], rigid_transform(pose.position, pose.orientation, 'pose'))
    assert log.read_text().count('TF is published through tf2_msgs alone') == 1


def test_transform_to_odom(run, peer, transforms):
    run(RECORD_TF, publish_tf='map_to_odom')
    peer.wait_until_active()
    assert_answers(peer)
    peer.wait_for_diagnostic(lambda s: 'no odometry' in s.message and s.level == s.WARN, 'a warning')
    assert not transforms
    stamp = next_stamp()
    T_odom_base = np.eye(4)
    T_odom_base[:3, :3] = Rotation.from_euler('z', 0.5).as_matrix()
    T_odom_base[:3, 3] = 4.0, 5.0, 0.0
    odometry = set_stamp(Odometry(child_frame_id='base_link'), stamp)
    odometry.header.frame_id = 'odom'
    x, y, z, w = Rotation.from_matrix(T_odom_base[:3, :3]).as_quat()
    q, p = odometry.pose.pose.orientation, odometry.pose.pose.position
    q.x, q.y, q.z, q.w, p.x, p.y = x, y, z, w, 4.0, 5.0
    peer.publish('odom', odometry)
    peer.spin_for(0.3)
    peer.publish('image', image_message(PIXELS, stamp))
    peer.wait_for(lambda: transforms, 'a transform')
    pose = peer.poses[stamp].pose
    assert transforms[0][:2] == (stamp, 'map odom')
    T_map_base = rigid_transform(pose.position, pose.orientation, 'pose').numpy()
    np.testing.assert_allclose(transforms[0][2].numpy() @ T_odom_base, T_map_base, atol=1e-9)


@pytest.mark.parametrize('times', [1, 2, 50])
def test_sigint_leaves_quietly(run, peer, times):
    log = run()
    peer.wait_until_active()
    peer.publish('image', image_message(PIXELS, next_stamp()))
    assert interrupt(run.process(), times) == 0
    assert 'Traceback' not in log.read_text()


def test_sigint_while_loading_leaves_quietly(run, peer):
    log = run()
    peer.spin_for(0.7)  # its libraries are loading now
    assert interrupt(run.process(), 2) == 0, log.read_text()


def test_a_parameter_of_a_wrong_type_is_one_line(tmp_path):
    log = tmp_path / 'log'
    process = start_node(log, {'map': 'tiny', 'diagnostics_period_s': 'often'})
    assert process.wait(60) == 1
    assert log.read_text().count('\n') == 1 and 'diagnostics_period_s' in log.read_text()
