"""The launch files, against stand-ins of launch's own classes, so that they are tested wherever Python is."""

import runpy
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from aprloc_ros.errors import AprlocError

LAUNCH = Path(__file__).parent.parent / 'launch'
CONFIG = LAUNCH.parent / 'config'
ARGUMENTS = {
    'relocalize': {'map', 'image', 'camera_info', 'odom', 'compressed', 'rviz', 'params_file', 'namespace',
                   'use_sim_time', 'log_level'},
    'replay': {'bag', 'map', 'report', 'rate', 'rviz'}}


@dataclass
class Action:
    """Any action or substitution: what it was made of."""

    kind: str
    arguments: tuple
    options: dict = field(default_factory=dict)

    def perform(self, context):
        return context[self.arguments[0]]


@pytest.fixture
def load(monkeypatch):
    """Runs a launch file -> its names."""
    for module_name, names in {
            'launch': ['LaunchContext', 'LaunchDescription'],
            'launch.actions': ['DeclareLaunchArgument', 'ExecuteProcess', 'OpaqueFunction', 'Shutdown'],
            'launch.substitutions': ['LaunchConfiguration', 'PathJoinSubstitution'], 'launch_ros': [],
            'launch_ros.actions': ['Node'], 'launch_ros.parameter_descriptions': ['ParameterValue'],
            'launch_ros.substitutions': ['FindPackageShare']}.items():
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
    """Runs a launch file with arguments on top of its defaults -> its processes."""
    def run(name, **given):
        declared, start = described(load(name))
        defaults = {argument: options.get('default_value') for argument, options in declared.items()}
        return start({**defaults, 'params_file': str(CONFIG / 'relocalize.yaml'), **given})
    return run


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
                                                'odom': 'wheels'}
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


def test_rviz_comes_with_its_file_and_looks_in_the_namespace_of_the_node(started, maps):
    _, rviz = started('relocalize', map='tiny', rviz='true', namespace='robot')
    assert [rviz.options[key] for key in ('package', 'executable', 'namespace')] == ['rviz2', 'rviz2', 'robot']
    flag, path = rviz.options['arguments']
    assert flag == '-d' and path.arguments[0][1:] == ['config', 'relocalize.rviz']
    displays = yaml.safe_load((CONFIG / 'relocalize.rviz').read_text())['Visualization Manager']['Displays']
    shown = {display['Topic']['Value'] for display in displays if 'Topic' in display}
    assert dict(rviz.options['remappings']) == {topic: topic.lstrip('/') for topic in shown}


def test_a_map_that_is_not_there_is_one_line_that_says_how_to_build_it(started, maps):
    with pytest.raises(AprlocError, match='aprloc build nowhere --data PATH') as raised:
        started('relocalize', map='nowhere')
    assert '\n' not in str(raised.value)
    with pytest.raises(AprlocError, match='aprloc build kings --data PATH.*KingsCollege of the Cambridge Landmarks'):
        started('relocalize', map='kings')
    with pytest.raises(AprlocError, match='map name'):
        started('relocalize', map='../tiny')


@pytest.mark.parametrize('text', [
    '/**:\n  ros__parameters:\n    map_dir: {}\n', 'relocalize:\n  ros__parameters: {{map_dir: {}}}\n',
    'robot:\n  other:\n    ros__parameters: {{rate: 3}}\n  relocalize:\n    ros__parameters:\n      map_dir: {}\n'])
def test_maps_are_also_looked_for_where_the_parameter_file_says(started, tiny_map, tmp_path, text):
    (tmp_path / 'mine.yaml').write_text(text.format(tiny_map.parent))
    assert len(started('relocalize', map='tiny', params_file=str(tmp_path / 'mine.yaml'))) == 1


def test_a_parameter_file_without_parameters_is_fine_and_one_that_is_not_there_is_not(started, maps, tmp_path):
    (tmp_path / 'empty.yaml').write_text('')
    assert len(started('relocalize', map='tiny', params_file=str(tmp_path / 'empty.yaml'))) == 1
    with pytest.raises(FileNotFoundError):
        started('relocalize', map='tiny', params_file=str(tmp_path / 'absent.yaml'))


def test_replay_plays_the_bag_into_the_node_and_ends_with_it(started, maps, tmp_path):
    process, = started('replay', map='tiny', bag=str(tmp_path), rate='2', report='there')
    assert process.kind == 'ExecuteProcess' and [action.kind for action in process.options['on_exit']] == ['Shutdown']
    python, *command = process.options['cmd']
    assert python == sys.executable and command[:2] == ['-m', 'aprloc_ros.cli']
    from aprloc_ros import cli, commands
    options = cli._parser().parse_args(command[2:])
    assert options.run == commands.play and (options.bag, options.map, options.rate) == (tmp_path, 'tiny', 2.0)
    assert options.report == Path('there')


def test_with_rviz_a_replay_stays_until_rviz_is_closed(started, maps, tmp_path):
    process, rviz = started('replay', map='tiny', bag=str(tmp_path), rviz='true')
    assert process.options['on_exit'] == [] and [action.kind for action in rviz.options['on_exit']] == ['Shutdown']


def test_a_replay_of_a_bag_or_map_that_is_not_there_starts_nothing(started, maps, tmp_path):
    with pytest.raises(AprlocError, match='aprloc bag --data PATH --out BAG'):
        started('replay', map='tiny', bag=str(tmp_path / 'absent'))
    with pytest.raises(AprlocError, match='aprloc build nowhere'):
        started('replay', map='nowhere', bag=str(tmp_path))
