"""The whole way: a bag over DDS through the real node in its own process, judged against the truth."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_map import CAMERA, save_tiny_map

from aprloc_ros.cli import main
from aprloc_ros.command_line.drive import DriveResult, drive, judge
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.bag_images import choose_topics, read_images
from aprloc_ros.recordings.bags import BagFrame, write_bag
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.truth import TruthOptions, find_truth, read_tf
from aprloc_ros.scoring.evaluation import agreement, make_record, score_poses, score_records
from aprloc_ros.scoring.replay import Robot, replay
from aprloc_ros.scoring.replay_scores import true_records

pytest.importorskip('rclpy', reason='ROS is not installed')


@pytest.fixture(scope='module')
def tiny_map(tmp_path_factory):
    return save_tiny_map(tmp_path_factory.mktemp('maps') / '12')   # a name that YAML would take for a number


SLOWLY = '0.2'   # twice a second: a busy machine keeps up too


def write_drive(path, map_directory, shift_m=0.0, count=8):
    """A bag whose truth is what the localizer answers without ROS, moved along x."""
    localizer = Localizer(load_map(map_directory, 'cpu'), 'cpu')
    rng = np.random.default_rng(0)
    frames = []
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        image = np.kron(coarse, np.ones((CAMERA.height // 6, CAMERA.width // 8, 1), np.uint8))
        T = localizer.localize(image, CAMERA).T_map_cam.clone()
        T[0, 3] += shift_m
        frames.append(BagFrame(10 ** 9 + index * 10 ** 8, image, CAMERA, T))
    write_bag(path, frames)
    return frames


def test_the_node_answers_over_dds_what_the_localizer_answers(tmp_path, tiny_map, capsys):
    frames = write_drive(tmp_path / 'bag', tiny_map)
    code = main(['play', str(tmp_path / 'bag'), '--map', '12', '--map-dir', str(tiny_map.parent), '--rate', SLOWLY, '--report',
                 str(tmp_path / 'report')])
    output = capsys.readouterr().out
    assert code == 0, output
    assert 'the poses were good' in output and 'frames sent: 8' in output and 'median' in output
    assert re.search(r'these frames replayed without ROS: (\d) answered again, \1 of them with the same pose', output)
    results = json.loads((tmp_path / 'report/results.json').read_text())
    assert results['good'] and all(results['checks'].values())
    assert len(frames) / 2 <= results['scores']['node, map 12']['count'] <= len(frames)
    assert results['scores']['node, map 12']['max_m'] < 1e-6
    assert results['scores']['node, map 12']['max_deg'] < 1e-3
    assert (tmp_path / 'report/worst.png').is_file() and (tmp_path / 'report/calibration.png').is_file()


def test_the_demo_runs_to_its_verdict(tmp_path, monkeypatch, capsys):
    from aprloc_ros.training.place import drive as place

    held_out = next(course for course in place.COURSES if course.split == 'test')
    monkeypatch.setattr(place, 'COURSES', (dataclasses.replace(held_out, frames=4),))
    save_tiny_map(tmp_path / 'maps' / 'demo')
    assert main(['demo', '--map-dir', str(tmp_path / 'maps'), '--report', str(tmp_path / 'report')]) == 1
    output = capsys.readouterr().out
    assert 'frames sent: 4' in output and 'answered: ' in output
    assert 'the poses were NOT good' in output    # random weights
    assert (tmp_path / 'report/index.html').is_file()


@pytest.mark.usefixtures('undrawn')
def test_bad_poses_are_a_bad_exit_code(tmp_path, tiny_map, capsys):
    write_drive(tmp_path / 'bag', tiny_map, shift_m=5.0)
    assert main(['play', str(tmp_path / 'bag'), '--map', '12', '--map-dir', str(tiny_map.parent), '--rate', SLOWLY,
                 '--report', str(tmp_path / 'report')]) == 1
    output = capsys.readouterr().out
    assert 'FAILED median error 5.000 m, at most 0.150 m' in output and 'the poses were NOT good' in output


@pytest.fixture(scope='module')
def driven(tmp_path_factory, tiny_map):
    """A bag, its frames, and what became of them in the node."""
    folder = tmp_path_factory.mktemp('driven')
    frames = write_drive(folder / 'bag', tiny_map, count=6)
    truth = {frame.stamp_ns: frame.T_map_cam for frame in frames}
    return folder / 'bag', frames, drive(folder / 'bag', truth, tiny_map, 1.0, folder / 'node.log', say=lambda text: None)


def test_offline_and_over_dds_agree_frame_by_frame(driven, tiny_map):
    bag, frames, result = driven
    live = result.records
    with open_recording(bag) as recording:
        replayed = list(replay(read_images(recording, choose_topics(recording)), Localizer(load_map(tiny_map, 'cpu'), 'cpu'), Robot()))
        truth = find_truth(recording, read_tf(recording), TruthOptions(), 'map', 'camera_optical_frame', len(frames))
        offline = list(true_records(replayed, truth).values())
    found = agreement(offline, live)
    assert len(offline) == len(frames) and 1 <= found.frames == len(live)
    assert found.same == found.frames and found.max_m < 1e-9 and found.max_deg < 1e-5
    errors_m = {record.stamp_s: record.error_m for record in offline}
    assert [errors_m[record.stamp_s] for record in live] == pytest.approx([r.error_m for r in live], abs=1e-9)


@pytest.mark.parametrize('superseded, rejected, good, says', [
    (0, {}, True, ''), (1, {'jump': 2}, False, ''),
    (9, {}, True, 'no time for 9 of 20 frames, which got no pose; --rate 0.25 answers more'),
    (4, {'out of time': 5}, True, 'no time for 9 of 20 frames'), (2, {'out of time': 9}, False, 'no time for 11 of 20'),
    (4, {'unsure': 5}, False, 'no time for 4 of 20')])
def test_a_machine_that_is_too_slow_is_not_a_map_that_is_wrong(tiny_map, superseded, rejected, good, says):
    manifest, T = load_map(tiny_map, 'cpu').manifest, torch.eye(4, dtype=torch.float64)
    answered = 20 - superseded - sum(rejected.values())
    records = [make_record(str(index), index, T, T, 50.0, 'answered') for index in range(answered)]
    result = DriveResult(records, 20, rejected, superseded)
    ours, mean_pose = score_records(records), score_poses(se3_exp(torch.full((6,), 0.5, dtype=torch.float64))[None], T[None])
    said = result.slowness(0.5)
    assert says in said and bool(said) == bool(says)
    verdict = dataclasses.replace(judge(result, ours, mean_pose, manifest), remark=said)
    assert verdict.good == good
    last = verdict.text().splitlines()[-1]
    words = 'the poses were good' if good else 'the poses were NOT good'
    assert last == (f'{words}{", but" if good else ";"} {said}' if said else words)


def test_covariances_come_back_in_camera_axes(driven, tiny_map):
    expected = load_map(tiny_map, 'cpu').manifest.covariance
    for record in driven[2].records:
        torch.testing.assert_close(record.covariance, expected, rtol=1e-6, atol=1e-12)


def test_a_node_that_cannot_load_its_map_is_quoted(tmp_path, tiny_map):
    frames = write_drive(tmp_path / 'bag', tiny_map, count=2)
    broken = save_tiny_map(tmp_path / 'maps' / 'broken')
    (broken / 'regressor.safetensors').write_bytes(b'damaged')
    with pytest.raises(AprlocError, match='the node is unconfigured: cannot configure: .*regressor.safetensors'):
        drive(tmp_path / 'bag', {f.stamp_ns: f.T_map_cam for f in frames}, broken, 1.0, tmp_path / 'node.log')


def test_ctrl_c_is_one_line_and_leaves_no_process(tmp_path, tiny_map):
    write_drive(tmp_path / 'bag', tiny_map)
    process = subprocess.Popen(
        [sys.executable, '-m', 'aprloc_ros.cli', 'play', tmp_path / 'bag', '--map', '12',
         '--map-dir', tiny_map.parent, '--rate', '0.01', '--report', tmp_path / 'report'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while 'frames sent' not in process.stdout.readline():
        assert process.poll() is None
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    assert len(children) == 1
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and errors == 'aprloc: interrupted\n'
    assert not Path(f'/proc/{children[0]}').exists()


def test_a_node_that_dies_on_the_way_is_reported(tmp_path, tiny_map):
    frames = write_drive(tmp_path / 'bag', tiny_map)

    def kill_node(text):
        if '1 of 8' in text:
            pids = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
            for pid in pids:
                if b'aprloc_ros.relocalize' in Path(f'/proc/{pid}/cmdline').read_bytes():
                    os.kill(int(pid), signal.SIGKILL)

    with pytest.raises(AprlocError, match='the node ended with exit code -9'):
        drive(tmp_path / 'bag', {f.stamp_ns: f.T_map_cam for f in frames}, tiny_map, 1.0, tmp_path / 'log', kill_node)
