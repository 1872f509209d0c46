"""How much may be wrong: the node, a replay and the command line draw the line at the same frame."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from repository import ROOT

pytest.importorskip('rclpy', reason='ROS is not installed')
from example_image import EXAMPLE
from ros_peer import image_message, next_stamp, running_nodes

from aprloc_ros.cli import main
from aprloc_ros.gate import Risk
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import read_manifest
from aprloc_ros.map_bundle import load_map, save_manifest
from aprloc_ros.recordings.bag_images import BagImage
from aprloc_ros.scoring.replay import ANSWERED, REJECTED, Robot, replay

PIXELS = cv2.imread(str(EXAMPLE))[..., ::-1]


@pytest.fixture(scope='module')
def doubtful(tmp_path_factory) -> Path:
    """The demo's map, had its calibration seen 30 of 1000 answers wrong, and none with a score near 1."""
    target = tmp_path_factory.mktemp('maps') / 'doubtful'
    shutil.copytree(ROOT / 'maps/demo', target)
    manifest = read_manifest(target / 'map.yaml')
    refiners = {}
    for name, spec in manifest.refiners.items():
        gate = replace(spec.gate, risks=(Risk(spec.gate.accept, 1000, 30), Risk(0.9999, 300, 0)))
        refiners[name] = replace(spec, gate=gate)
    save_manifest(target, replace(manifest, name='doubtful', refiners=refiners))
    return target


def replayed(localizer):
    image = BagImage(0, 10**9, 10**9, 'camera', image_message(PIXELS), None, False)
    [frame] = replay([image], localizer, Robot())
    return frame


def test_node_replay_and_localize_reject_the_same_frame(doubtful, tmp_path, peer, capsys):
    bundle = load_map(doubtful, 'cpu')
    frame = replayed(Localizer(bundle, 'cpu'))
    assert (frame.outcome, frame.reason) == (REJECTED, 'unsure')
    assert replayed(Localizer(bundle, 'cpu', max_wrong_share=0.1)).outcome == ANSWERED
    assert main(['localize', str(EXAMPLE), '--map', 'doubtful', '--map-dir', str(doubtful.parent), '--device', 'cpu']) == 1
    said = capsys.readouterr()
    assert 'rejected' in said.out and not said.err
    with running_nodes(tmp_path, peer, doubtful) as run:
        run(map='doubtful', require_camera_info=False, refine_ms=60000.0, odometry='none', publish_tf='none')
        peer.wait_for(lambda: peer.values().get('state') == 'active', 'an active node')
        peer.publish('image', image_message(PIXELS, next_stamp()))
        peer.wait_for(lambda: 'unsure' in peer.values().get('last rejection', ''), 'a rejection')
        assert frame.text in peer.values()['last rejection'] and not peer.poses
