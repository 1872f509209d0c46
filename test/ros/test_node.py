"""The real node in its own process over real DDS: its lifecycle, its load, its end, and what it survives."""

import dataclasses
import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from ros_peer import (
    LINE,
    PATIENCE_S,
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

from aprloc_ros.manifest import read_manifest
from aprloc_ros.map_bundle import save_manifest
from aprloc_ros.moved_map import move_map
from aprloc_ros.placement.map_frame import MapFrame
from aprloc_ros.similarity import Similarity


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


def test_a_map_in_no_known_unit_that_lies_nowhere_says_both(run, peer, tmp_path, tiny_map):
    shutil.copytree(tiny_map, tmp_path / 'maps/somewhere')
    manifest = read_manifest(tmp_path / 'maps/somewhere/map.yaml')
    unit = dataclasses.replace(manifest, name='somewhere', frame=MapFrame('arbitrary'))
    save_manifest(tmp_path / 'maps/somewhere', unit)
    log = run(map='somewhere', map_dir=tmp_path / 'maps', geopose=True)
    status = peer.wait_for_diagnostic(lambda s: s.level == s.ERROR, 'an error')
    assert 'cannot configure: the parameter geopose is true but the map does not know where' in status.message
    assert peer.set_parameter('geopose', False).successful
    for transition in ('configure', 'cleanup', 'configure', 'activate'):
        assert peer.transition(transition)
    assert log.read_text().count('its poses are not in metres') == 1


def test_an_unsure_scale_widens_the_published_covariance(run, peer, tmp_path, tiny_map):
    manifest = read_manifest(tiny_map / 'map.yaml')
    found = []
    for name, frame in (('sure', MapFrame()), ('unsure', MapFrame(scale_sd=0.5))):
        shutil.copytree(tiny_map, tmp_path / 'maps' / name)
        save_manifest(tmp_path / 'maps' / name, dataclasses.replace(manifest, name=name, frame=frame))
    run(map='sure', map_dir=tmp_path / 'maps', publish_tf='none', confirmations=1, gate_probability=1.0)
    for name in ('sure', 'unsure'):
        peer.wait_until_active()
        found.append(peer.full_poses[assert_answers(peer)].pose)
        if name == 'sure':
            assert peer.transition('deactivate') and peer.set_parameter('map', 'unsure').successful
            assert peer.transition('activate')
    sure, unsure = found
    p = unsure.pose.position
    more = [unsure.covariance[i] - sure.covariance[i] for i in (0, 7, 14, 1)]
    assert more == pytest.approx([0.25 * p.x * p.x, 0.25 * p.y * p.y, 0.25 * p.z * p.z, 0.25 * p.x * p.y], rel=1e-4, abs=1e-6)


def test_a_map_that_was_moved_since_is_loaded_anew_when_the_node_becomes_active(run, peer, tmp_path, tiny_map):
    """Else it would go on in the frame of before."""
    shutil.copytree(tiny_map, tmp_path / 'maps/tiny')
    run(map_dir=tmp_path / 'maps', publish_tf='none', gate_probability=1.0)
    peer.wait_until_active()
    before = peer.poses[assert_answers(peer)].pose.position
    assert 'was changed' not in peer.diagnostics[-1].message
    move_map(tmp_path / 'maps/tiny', Similarity(1.0, torch.eye(3).double(), torch.tensor([5.0, 0.0, 0.0]).double(), 0.0, ''))
    peer.wait_for_diagnostic(lambda s: 'the map tiny was changed on disk since it was loaded' in s.message and s.level == s.WARN, 'a warning')
    assert peer.transition('deactivate')
    assert peer.transition('activate')
    peer.wait_until_active()
    after = peer.poses[assert_answers(peer)].pose.position
    assert (after.x - before.x, after.y - before.y) == pytest.approx((5.0, 0.0), abs=1e-4)
    assert 'was changed' not in peer.diagnostics[-1].message
    assert peer.transition('deactivate')
    gone = (tmp_path / 'maps/tiny').rename(tmp_path / 'maps/gone')
    assert not peer.transition('activate')
    peer.wait_for_diagnostic(lambda s: 'cannot activate: no map tiny in' in s.message, 'an error')
    gone.rename(tmp_path / 'maps/tiny')
    assert peer.transition('activate')


def test_an_old_pose_is_not_handed_to_amcl(run, peer):
    """A robot that was asked once may have gone anywhere since."""
    run('from aprloc_ros.ros import stream; stream._OLDEST_GUESS_S = 0.5' + LINE, mode='one_shot')
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))
    assert peer.trigger('relocalize', lambda: peer.publish('image', image_message(PIXELS, next_stamp()))).success
    said = [peer.trigger('publish_initialpose')]
    peer.wait_for(lambda: not said.append(peer.trigger('publish_initialpose')) and not said[-1].success, 'a refusal')
    assert re.fullmatch(r'the last pose is \d+ s old: there is no pose to publish; wait, or call .*/relocalize', said[-1].message)


def test_lifecycle(run, peer):
    run(autostart=False)
    assert peer.state() == 'unconfigured'
    assert peer.transition('configure') and peer.state() == 'inactive'
    peer.publish('camera_info', camera_info_message(CAMERA))
    peer.publish('image', image_message(PIXELS, next_stamp()))
    assert peer.transition('activate') and peer.state() == 'active'
    peer.wait_until_active()
    first = assert_answers(peer)
    assert peer.transition('deactivate') and peer.state() == 'inactive'
    peer.publish('image', image_message(PIXELS, next_stamp()))
    assert peer.transition('activate')
    peer.wait_until_active()
    second = assert_answers(peer)
    assert peer.heard == [first, second]   # and no answer to what came while it was not active
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


# The first answer begins, which the file `begun` says, and takes until the file `go` is there.
SLOW = '''
import pathlib, sys, time
from aprloc_ros import localizer, relocalize
quick, begun, go = localizer.Localizer.localize, pathlib.Path({begun!r}), pathlib.Path({go!r})
def localize(*arguments, **starts):
    begun.touch()
    while not go.exists():
        time.sleep(0.01)
    return quick(*arguments, **starts)
localizer.Localizer.localize = localize
sys.exit(relocalize.main())
'''


PATIENT = '''
import sys
from aprloc_ros import relocalize
from aprloc_ros.ros import inputs
inputs._CAMERA_INFO_WAIT_S = 300.0   # as slow as a busy machine may be
sys.exit(relocalize.main())
'''


def test_the_first_frame_waits_for_a_camera_info_that_is_late(run, peer):
    run(PATIENT)
    peer.wait_until_active()
    stamp = next_stamp()
    peer.publish('image', image_message(PIXELS, stamp))
    peer.wait_for(lambda: peer.values().get('frames received') == '1', 'the image')
    peer.publish('camera_info', camera_info_message(CAMERA))
    peer.wait_for(lambda: stamp in peer.poses, 'a pose')
    assert frame_counts(peer)[3] == 0


def test_under_load_only_the_newest_frame_is_answered_and_callbacks_do_not_wait(run, peer, tmp_path):
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    run(SLOW.format(begun=str(begun), go=str(go)))
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))
    stamps = [next_stamp() for _ in range(40)]
    peer.publish('image', image_message(PIXELS, stamps[0]))
    peer.wait_for(begun.exists, 'the first answer to begin')
    for count, stamp in enumerate(stamps[1:], 2):
        peer.publish('image', image_message(PIXELS, stamp))
        peer.wait_for(lambda count=count: frame_counts(peer)[0] == count, 'the image, while the answer takes its time')
    go.touch()
    peer.wait_for(lambda: sum(frame_counts(peer)[1:]) == 40 and len(peer.heard) == 2, 'every frame accounted for')
    assert frame_counts(peer) == [40, 2, 38, 0]
    assert peer.heard == [stamps[0], stamps[-1]]


OUT_OF_MEMORY = '''
import sys
import torch
from aprloc_ros import localizer, relocalize
from aprloc_ros.ros import frames
gpu = torch.device('meta')  # stands for a GPU, which no machine of the tests has
prepare = localizer.Localizer.__init__
def on_gpu(self, bundle, device, *others):
    prepare(self, bundle, 'cpu', *others)
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
def localize(*arguments, **starts):
    if failures:
        raise failures.pop()
    return quick(*arguments, **starts)
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


@pytest.mark.parametrize('times', [1, 2, 50])
def test_sigint_leaves_quietly(run, peer, times):
    log = run(executable=True)
    peer.wait_until_active()
    peer.publish('image', image_message(PIXELS, next_stamp()))
    assert interrupt(run.process(), times) == 0
    assert 'Traceback' not in log.read_text()


def test_sigint_while_loading_leaves_quietly(run, peer):
    log = run(executable=True)
    maps = Path(f'/proc/{run.process().pid}/maps')
    peer.wait_for(lambda: 'libtorch' in maps.read_text(), 'its libraries to be loading')
    assert interrupt(run.process(), 2) == 0, log.read_text()


def test_a_parameter_of_a_wrong_type_is_one_line(tmp_path):
    log = tmp_path / 'log'
    process = start_node(log, {'map': 'tiny', 'diagnostics_period_s': 'often'}, executable=True)
    assert process.wait(PATIENCE_S) == 1
    assert log.read_text().count('\n') == 1 and 'diagnostics_period_s' in log.read_text()
