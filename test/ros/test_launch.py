"""The launch files, against stand-ins of launch's own classes, so that they are tested wherever Python is."""

import os
import re
import runpy
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip('rclpy', reason='our launch files ask rclpy what a name may be, as launch_ros does')
from repository import ROOT
from tiny_map import CAMERA

from aprloc_ros.errors import AprlocError

LAUNCH = ROOT / 'launch'
CONFIG = LAUNCH.parent / 'config'
ARGUMENTS = {
    'relocalize': {'map', 'image', 'camera_info', 'odom', 'compressed', 'rviz', 'params_file', 'namespace', 'tf',
                   'frame_prefix', 'autostart', 'use_sim_time', 'log_level'},
    'replay': {'bag', 'map', 'report', 'rate', 'rviz'}}


@dataclass
class Action:
    """Any action or substitution: what it was made of."""

    kind: str
    arguments: tuple
    options: dict = field(default_factory=dict)

    @property
    def name(self):
        return self.arguments[0]

    def perform(self, context):
        return context[self.name]


class Context(dict):
    """Of a launch: the arguments, and those of the command line as they were typed."""

    argv = ()


@pytest.fixture
def load(monkeypatch):
    """Runs a launch file -> its names."""
    for module_name, names in {
            'launch': ['Action', 'LaunchContext', 'LaunchDescription'],
            'launch.actions': ['DeclareLaunchArgument', 'ExecuteProcess', 'LogInfo', 'OpaqueFunction', 'Shutdown'],
            'launch.substitutions': ['LaunchConfiguration'], 'launch_ros': [],
            'launch_ros.actions': ['Node'], 'launch_ros.parameter_descriptions': ['ParameterValue']}.items():
        module = types.ModuleType(module_name)
        for name in names:
            setattr(module, name, lambda *arguments, kind=name, **options: Action(kind, arguments, options))
        monkeypatch.setitem(sys.modules, module_name, module)
    return lambda name: runpy.run_path(str(LAUNCH / f'{name}.launch.py'))


def described(file):
    """What a launch file declares: argument -> its options; and the function that starts the processes."""
    *arguments, start = file['generate_launch_description']().arguments[0]
    assert start.kind == 'OpaqueFunction' and {argument.kind for argument in arguments} == {'DeclareLaunchArgument'}
    return {argument.arguments[0]: argument.options for argument in arguments}, start.options['function']


@pytest.fixture
def started(load):
    """Runs a launch file with arguments on top of its defaults -> its processes, and what it says before."""
    def run(name, **given):
        declared, start = described(load(name))
        context = Context({argument: options.get('default_value') for argument, options in declared.items()})
        context.update(given)
        context.argv = [f'{argument}:={value}' for argument, value in given.items()]
        return start(context)
    return run


@pytest.fixture
def rviz(tmp_path, monkeypatch):
    """An installed rviz2 that does nothing."""
    executable = tmp_path / 'prefix/lib/rviz2/rviz2'
    marker = tmp_path / 'prefix/share/ament_index/resource_index/packages/rviz2'
    for path in (executable, marker):
        path.parent.mkdir(parents=True)
        path.touch()
    executable.chmod(0o755)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    return executable


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """One that can be played and judged."""
    bags = pytest.importorskip('aprloc_ros.recordings.bags', reason='writing bags needs rosbags')
    path = tmp_path_factory.mktemp('bags') / 'bag'
    pixels = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    bags.write_bag(path, [bags.BagFrame(10**9, pixels, CAMERA, torch.eye(4, dtype=torch.float64))])
    return path


@pytest.fixture
def maps(tiny_map, monkeypatch):
    """The map tiny is found, and none but the package's own besides."""
    monkeypatch.setenv('APRLOC_MAP_PATH', str(tiny_map.parent))


@pytest.mark.parametrize('name', ARGUMENTS)
def test_every_argument_is_described_and_has_a_default_that_is_allowed(load, name):
    declared, _ = described(load(name))
    assert set(declared) == ARGUMENTS[name]
    for argument, options in declared.items():
        assert len(options['description']) > 15 and not options['description'].endswith('.'), argument
        assert options.get('default_value') in options.get('choices', [options.get('default_value')])
    needed = {argument for argument, options in declared.items() if 'default_value' not in options}
    assert needed == {'map', 'bag'} & set(declared)


def test_the_node_gets_its_topics_its_map_and_its_files(started, maps):
    node, = started('relocalize', map='tiny', image='/camera/image_raw', odom='wheels', namespace='robot',
                    log_level='debug', use_sim_time='true')
    assert [node.options[key] for key in ('package', 'executable', 'name', 'namespace')] == [
        'aprloc_ros', 'relocalize', 'relocalize', 'robot']
    assert dict(node.options['remappings']) == {'image': '/camera/image_raw', 'camera_info': 'camera_info',
                                                'odom': 'wheels', '/tf': '/tf', '/tf_static': '/tf_static'}
    file, parameters = node.options['parameters']
    assert file == str(CONFIG / 'relocalize.yaml') and set(parameters) == {'map', 'use_sim_time'}
    # A map called 12 stays a text.
    assert parameters['map'].arguments == ('tiny',) and parameters['map'].options == {'value_type': str}
    assert parameters['use_sim_time'] is True
    assert node.options['arguments'] == ['--ros-args', '--log-level', 'debug']


@pytest.mark.parametrize('compressed, transport', [('true', 'compressed'), ('false', 'raw'), ('auto', None)])
def test_compressed_overrides_the_file_only_when_it_is_said(started, maps, compressed, transport):
    node, = started('relocalize', map='tiny', compressed=compressed)
    assert node.options['parameters'][1].get('image_transport') == transport


def test_rviz_comes_with_its_file_and_looks_in_the_namespace_of_the_node(started, maps, rviz):
    _, window = started('relocalize', map='tiny', rviz='true', namespace='robot')
    assert [window.options[key] for key in ('package', 'executable', 'namespace')] == ['rviz2', 'rviz2', 'robot']
    assert window.options['arguments'] == ['-d', str(CONFIG / 'relocalize.rviz')]
    manager = yaml.safe_load((CONFIG / 'relocalize.rviz').read_text())['Visualization Manager']
    topics = {item['Topic']['Value'] for item in manager['Displays'] + manager['Tools'] if 'Topic' in item}
    assert '/initialpose' in topics
    assert dict(window.options['remappings']) == {
        **{topic: topic.lstrip('/') for topic in topics}, '/tf': '/tf', '/tf_static': '/tf_static'}


def test_node_and_rviz_take_the_transforms_of_a_namespace_when_told(started, maps, rviz):
    actions = started('relocalize', map='tiny', rviz='true', namespace='robot', tf='tf', frame_prefix='robot/')
    for action in actions:
        remappings = dict(action.options['remappings'])
        assert (remappings['/tf'], remappings['/tf_static']) == ('tf', 'tf_static')
    prefix = actions[0].options['parameters'][1]['frame_prefix']
    assert prefix.arguments == ('robot/',) and prefix.options == {'value_type': str}


@pytest.mark.parametrize('autostart, parameter', [('true', True), ('false', False), ('auto', None)])
def test_a_lifecycle_manager_may_start_the_node(started, maps, autostart, parameter):
    node, = started('relocalize', map='tiny', autostart=autostart)
    assert node.options['parameters'][1].get('autostart') is parameter


def test_the_node_and_the_player_end_with_their_launch(started, maps, bag):
    for process, in (started('relocalize', map='tiny'), started('replay', map='tiny', bag=str(bag))):
        assert process.options['additional_env'] == {'APRLOC_ENDS_WITH': str(os.getpid())}


def spoilt_files(directory):
    """Files of parameters that are none, and what is said of each."""
    (directory / 'folder').mkdir()
    for name, content, words in (
            ('broken.yaml', b'relocalize: [1,\n  2: }', 'not YAML: line 2'),
            ('picture.png', bytes(range(256)), 'not YAML'), ('list.yaml', b'- a\n- b', 'names no parameters'),
            ('flat.yaml', b'map_dir: maps', 'names no parameters'), ('text.yaml', b'/**: {ros__parameters: 3}', 'names and values')):
        (directory / name).write_bytes(content)
        yield name, words
    yield 'absent.yaml', 'No such file or directory'
    yield 'folder', 'Is a directory'


def test_a_file_of_parameters_that_is_none_is_one_line_that_names_it(started, maps, tmp_path):
    for name, words in spoilt_files(tmp_path):
        with pytest.raises(AprlocError) as raised:
            started('relocalize', map='tiny', params_file=str(tmp_path / name))
        text = str(raised.value)
        assert text.startswith(f'params_file:={tmp_path / name}: ') and words in text
        assert '\n' not in text and 'Errno' not in text


@pytest.mark.parametrize('argument, value', [
    ('image', '/camera/'), ('image', '9cam'), ('image', ''), ('camera_info', 'a//b'), ('odom', 'my odom'), ('tf', '/tf?'),
    ('namespace', 'robot-1'), ('namespace', 'a//b'), ('frame_prefix', '/robot1/')])
def test_a_name_that_ros_does_not_take_starts_nothing(started, maps, argument, value):
    with pytest.raises(AprlocError, match=f'^{argument}:=') as raised:
        started('relocalize', map='tiny', **{argument: value})
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('name', ARGUMENTS)
def test_without_rviz_nothing_starts_when_it_is_wanted(started, maps, bag, monkeypatch, tmp_path, name):
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    given = {'map': 'tiny', 'rviz': 'true'} | ({'bag': str(bag)} if name == 'replay' else {})
    with pytest.raises(AprlocError, match='rviz:=true needs the package rviz2.*apt install') as raised:
        started(name, **given)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('name', ARGUMENTS)
def test_half_an_rviz_is_none(started, maps, bag, rviz, name):
    given = {'map': 'tiny', 'rviz': 'true'} | ({'bag': str(bag)} if name == 'replay' else {})
    rviz.unlink()
    with pytest.raises(AprlocError, match=f'rviz:=true needs {rviz}'):
        started(name, **given)


@pytest.mark.parametrize('typed, meant', [('imge', 'image'), ('rvis', 'rviz'), ('param_file', 'params_file'), ('mapp', 'map')])
def test_a_mistyped_argument_is_told_before_anything_starts(started, maps, typed, meant):
    said, node = started('relocalize', map='tiny', **{typed: 'x'})
    assert said.kind == 'LogInfo' and node.kind == 'Node'
    assert said.options['msg'] == f'{typed}:= is ignored, it is no argument of this launch file; did you mean {meant}:= ?'
    assert len(started('relocalize', map='tiny', arm_speed='3')) == 1   # of a launch file around this one


def test_a_map_that_is_not_there_is_one_line_that_says_how_to_build_it(started, maps):
    with pytest.raises(AprlocError, match='aprloc build nowhere --data PATH') as raised:
        started('relocalize', map='nowhere')
    assert '\n' not in str(raised.value)
    with pytest.raises(AprlocError, match=r'no map tinny .*; did you mean tiny\? there are: .*tiny'):
        started('relocalize', map='tinny')
    with pytest.raises(AprlocError, match='aprloc build kings --data PATH.*KingsCollege of the Cambridge Landmarks'):
        started('relocalize', map='kings')
    with pytest.raises(AprlocError, match='map name'):
        started('relocalize', map='../tiny')


@pytest.mark.parametrize('namespace, text', [
    ('', '/**:\n  ros__parameters:\n    map_dir: {}\n'), ('', 'relocalize:\n  ros__parameters: {{map_dir: {}}}\n'),
    ('robot', 'robot:\n  other:\n    ros__parameters: {{rate: 3}}\n  relocalize:\n    ros__parameters:\n      map_dir: {}\n')])
def test_maps_are_also_looked_for_where_the_parameter_file_says(started, tiny_map, tmp_path, namespace, text):
    (tmp_path / 'mine.yaml').write_text(text.format(tiny_map.parent))
    assert len(started('relocalize', map='tiny', namespace=namespace, params_file=str(tmp_path / 'mine.yaml'))) == 1


# As rcl of Kilted takes them: tried with a node of each name.
NAMES = {'relocalize': (True, False), '/relocalize': (True, False), '/**': (True, True), '/*/relocalize': (False, True),
         '/robot1/relocalize': (False, True), 'robot1/relocalize': (False, True), '/**/relocalize': (True, True),
         '/robot1/**': (False, True), '/*': (True, False)}


@pytest.mark.parametrize('name', NAMES)
def test_parameters_that_ros_would_not_give_to_the_node_start_nothing(started, maps, tmp_path, name):
    path = tmp_path / 'mine.yaml'
    path.write_text(f"'{name}': {{ros__parameters: {{publish_tf: none}}}}")
    for namespace, is_its in zip(('', 'robot1'), NAMES[name], strict=True):
        if is_its:
            assert len(started('relocalize', map='tiny', namespace=namespace, params_file=str(path))) == 1
            continue
        node = f'/{namespace}/relocalize'.replace('//', '/')
        with pytest.raises(AprlocError, match=rf'has parameters of /{re.escape(name.lstrip("/"))}, none of {node}: write /\*\* or {node} '):
            started('relocalize', map='tiny', namespace=namespace, params_file=str(path))


def test_a_parameter_file_without_parameters_is_fine(started, maps, tmp_path):
    (tmp_path / 'empty.yaml').write_text('')
    assert len(started('relocalize', map='tiny', params_file=str(tmp_path / 'empty.yaml'))) == 1


def test_replay_plays_the_bag_into_the_node_and_ends_with_it(started, maps, bag):
    process, = started('replay', map='tiny', bag=str(bag), rate='2', report='there')
    assert process.kind == 'ExecuteProcess' and [action.kind for action in process.options['on_exit']] == ['Shutdown']
    python, *command = process.options['cmd']
    assert python == sys.executable and command[:2] == ['-m', 'aprloc_ros.cli']
    from aprloc_ros import cli
    from aprloc_ros.command_line import using
    options = cli._parser().parse_args(command[2:])
    assert options.run == using.play and (options.bag, options.map, options.rate) == (bag, 'tiny', 2.0)
    assert options.report == Path('there') and 1 <= options.domain <= 101


def test_with_rviz_a_replay_stays_until_rviz_is_closed_and_both_are_in_the_same_domain(started, maps, bag, rviz):
    process, window = started('replay', map='tiny', bag=str(bag), rviz='true')
    assert process.options['on_exit'] == [] and [action.kind for action in window.options['on_exit']] == ['Shutdown']
    domain = process.options['cmd'][process.options['cmd'].index('--domain') + 1]
    environment = window.options['additional_env']
    assert (environment['ROS_DOMAIN_ID'], environment['ROS_AUTOMATIC_DISCOVERY_RANGE']) == (domain, 'LOCALHOST')


@pytest.mark.parametrize('argument, value, words', [
    ('rate', 'fast', 'must be a number'), ('rate', '0', 'must be a number'), ('rate', 'nan', 'must be a number'),
    ('rate', '101', 'up to 100'), ('report', '{}', 'not a folder'), ('report', '{}/inner', 'not a folder')])
def test_a_replay_with_a_wrong_argument_starts_nothing(started, maps, bag, tmp_path, argument, value, words):
    (tmp_path / 'file').touch()
    with pytest.raises(AprlocError, match=f'^{argument}:=.*{words}') as raised:
        started('replay', map='tiny', bag=str(bag), **{argument: value.format(tmp_path / 'file')})
    assert '\n' not in str(raised.value)


def test_a_replay_of_a_bag_without_its_topics_starts_nothing(started, maps, tmp_path):
    from aprloc_ros.recordings.bags import new_bag
    with new_bag(tmp_path / 'empty'):
        pass
    for name in ('empty', ''):
        with pytest.raises(AprlocError, match=str(tmp_path / name)) as raised:
            started('replay', map='tiny', bag=str(tmp_path / name))
        assert '\n' not in str(raised.value)


def test_a_replay_of_a_bag_or_map_that_is_not_there_starts_nothing(started, maps, bag, tmp_path):
    with pytest.raises(AprlocError, match='aprloc bag --data PATH --out BAG'):
        started('replay', map='tiny', bag=str(tmp_path / 'absent'))
    with pytest.raises(AprlocError, match='aprloc build nowhere'):
        started('replay', map='nowhere', bag=str(bag))
