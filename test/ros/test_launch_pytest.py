"""The launch files with the real launch, where a ROS distribution has it."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

launch_pytest = pytest.importorskip('launch_pytest', reason='launch is not on PyPI; a ROS distribution has it')
pytest.importorskip('launch_ros', reason='launch_ros is not on PyPI; a ROS distribution has it')
import torch
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from ros_peer import assert_answers
from tiny_map import CAMERA

from launch import LaunchDescription, LaunchService

try:
    SHARE = Path(get_package_share_directory('aprloc_ros'))
except PackageNotFoundError:
    pytest.skip('aprloc_ros is not installed where ROS looks: build and source the workspace', allow_module_level=True)
EXIT_CODES = []


def description(name, **arguments):
    """A launch file of ours with its arguments, noting how its processes end."""
    source = PythonLaunchDescriptionSource(str(SHARE / f'launch/{name}.launch.py'))
    EXIT_CODES.clear()
    noting = RegisterEventHandler(OnProcessExit(on_exit=lambda event, context: EXIT_CODES.append(event.returncode)))
    return [noting, IncludeLaunchDescription(source, launch_arguments=arguments.items())]


@launch_pytest.fixture
def relocalize(tiny_map, tmp_path):
    parameters = {'map_dir': str(tiny_map.parent), 'device': 'cpu', 'reliability': 'reliable', 'confirmations': 1,
                  'diagnostics_period_s': 0.1, 'extrinsics': 'parameters', 'gate_probability': 1.0}
    (tmp_path / 'mine.yaml').write_text(yaml.safe_dump({'/**': {'ros__parameters': parameters}}))
    return LaunchDescription([*description('relocalize', map='tiny', params_file=str(tmp_path / 'mine.yaml')),
                              launch_pytest.actions.ReadyToTest()])


@pytest.mark.launch(fixture=relocalize)
def test_the_node_answers_and_ends_without_complaint(relocalize, peer):
    peer.wait_until_active()
    assert_answers(peer)
    yield
    assert EXIT_CODES == [0]


def test_a_map_that_is_not_there_starts_nothing_and_says_how_to_build_it(caplog):
    logging.getLogger('launch').addHandler(caplog.handler)
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription(description('relocalize', map='kings')))
    assert service.run() == 1 and EXIT_CODES == []
    said, = caplog.messages[-1:]
    assert 'aprloc build kings --data PATH' in said and 'KingsCollege' in said and '\n' not in said


def refused(name, **arguments):
    """Launch ends with an error, and nothing has started."""
    service = LaunchService(noninteractive=True, argv=[f'{key}:={value}' for key, value in arguments.items()])
    service.include_launch_description(LaunchDescription(description(name, **arguments)))
    assert service.run() == 1 and EXIT_CODES == []


@pytest.mark.parametrize('arguments, words', [
    ({'rviz': 'true'}, 'rviz:=true needs the package rviz2'), ({'params_file': 'absent.yaml'}, 'absent.yaml: No such file'),
    ({'image': '/a//b'}, 'image:=/a//b'), ({'namespace': 'my robot'}, 'namespace:=my robot'), ({'rviz': 'perhaps'}, 'perhaps'),
    ({'autostart': 'no'}, 'no')])
def test_what_cannot_work_starts_nothing_and_is_one_line(caplog, tiny_map, monkeypatch, arguments, words):
    if arguments.get('rviz') == 'true' and shutil.which('rviz2', path=':'.join(
            f'{prefix}/lib/rviz2' for prefix in os.environ['AMENT_PREFIX_PATH'].split(':'))):
        pytest.skip('rviz2 is installed here')
    monkeypatch.setenv('APRLOC_MAP_PATH', str(tiny_map.parent))
    logging.getLogger('launch').addHandler(caplog.handler)
    refused('relocalize', map='tiny', **arguments)
    said, = caplog.messages[-1:]
    assert words in said and '\n' not in said


def test_a_launch_that_is_killed_leaves_no_node(tiny_map, monkeypatch, peer):
    monkeypatch.setenv('APRLOC_MAP_PATH', str(tiny_map.parent))
    launch = subprocess.Popen([sys.executable, '-c', LAUNCH, str(SHARE / 'launch/relocalize.launch.py')])
    peer.wait_until_active()
    launch.kill()
    launch.wait()
    peer.wait_for(lambda: peer._node.count_publishers('pose') == 0, 'the end of the node')


LAUNCH = '''
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments={'map': 'tiny'}.items())]))
service.run()
'''


def test_replay_writes_its_report_and_ends_by_itself(tiny_map, tmp_path, monkeypatch):
    bags = pytest.importorskip('aprloc_ros.recordings.bags', reason='writing bags needs rosbags')
    frames = [bags.BagFrame((index + 1) * 10**8, np.random.default_rng(index).integers(
        0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8), CAMERA, torch.eye(4, dtype=torch.float64))
        for index in range(3)]
    bags.write_bag(tmp_path / 'bag', frames)
    monkeypatch.setenv('APRLOC_MAP_PATH', str(tiny_map.parent))
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription(description(
        'replay', map='tiny', bag=str(tmp_path / 'bag'), report=str(tmp_path / 'report'))))
    service.run()
    assert EXIT_CODES == [1]   # random weights: the poses were not good, and the exit code says so
    assert (tmp_path / 'report/index.html').is_file()
