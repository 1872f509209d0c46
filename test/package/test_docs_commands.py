"""Every command of README, docs and config is one that works: parsed by what would run it, and run where that is cheap.

What a command names must exist in a node that runs: its topics with their types and QoS, its services, its parameters. Where
ros2cli is installed, the commands about the node are run as they stand.
"""

import dataclasses
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

from aprloc_ros import cli

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md')), *sorted((ROOT / 'config').glob('*.yaml'))]
BLOCK = re.compile(r'^```sh\n(.*?)^```', re.MULTILINE | re.DOTALL)
SPAN = re.compile(r'`((?:aprloc|ros2|relocalize|make|python|torchrun|pip) [^`\n]+)`')
# Words of ros2 that speak to other packages, or change the machine: their form alone is checked.
ELSEWHERE = {'bag record', 'security create_keystore', 'security create_enclave', 'security create_permission',
             'launch nav2_bringup', 'run nav2_lifecycle_manager', 'run robot_localization', 'run tf2_tools'}
OF_THE_ROBOT = '/camera/'   # topics of a driver
OF_A_GOOD_MAP = {'adapt', 'extend', 'pose', 'atlas', 'localize'}   # refuse what a build of seconds knows, and images that small
RUNS_S = 120


def commands():
    """(page, words) of every command, in blocks and within the text."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
        lines += SPAN.findall(BLOCK.sub('', text)) if page.suffix == '.md' else SPAN.findall(text)
        lines += re.findall(r'^#\s+(ros2 .+)$', text, re.MULTILINE) if page.suffix == '.yaml' else []
        for line in lines:
            words = shlex.split(line, comments=True)
            if words:
                yield page, words


COMMANDS = list(commands())


def beginning(*starts):
    found = [(page, words) for page, words in COMMANDS if tuple(words[:len(starts)]) == starts]
    assert found, starts
    return found


def described(value):
    return value.name if isinstance(value, Path) else ' '.join(value)[:80]


def test_there_are_as_many_as_the_pages_have():
    assert len(COMMANDS) > 70 and {page.name for page, _ in COMMANDS} >= {
        'README.md', 'integration.md', 'troubleshooting.md', 'your_place.md', 'datasets.md', 'figures.md', 'relocalize.yaml'}


@pytest.mark.parametrize('page', [page for page in PAGES if page.suffix == '.md'], ids=lambda page: page.name)
def test_every_block_is_what_a_shell_takes(page):
    for block in BLOCK.findall(page.read_text()):
        checked = subprocess.run(['bash', '-n'], input=block, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize('page, words', beginning('aprloc'), ids=described)
def test_every_aprloc_command_is_one_that_the_command_line_takes(page, words, capsys):
    words = ['7' if word in ('N', 'M') else word for word in words if word != '...']
    if len(words) == 2 or words[1:3] == ['benchmark', words[-1]] or words[-1] == '--rate':
        words = [*words[:3 - (words[-1] == '--rate')], '--help']   # named within the text, without its options
    try:
        options = cli._parser().parse_args(words[1:])
        if words[1] == 'benchmark' and '--help' not in words:
            from aprloc_ros.training.benchmarks.command import _parser
            _parser().parse_args([options.what, *options.rest])
    except SystemExit as end:
        if end.code:
            pytest.fail(f'{page.name}: {" ".join(words)}: {capsys.readouterr().err.splitlines()[-1]}')


@pytest.mark.parametrize('page, words', beginning('make'), ids=described)
def test_every_target_of_make_is_there(page, words):
    targets = re.findall(r'^(\w[\w-]*):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert set(words[1:]) <= set(targets)


@pytest.mark.parametrize('page, words', [c for c in COMMANDS if c[1][0] in ('python', 'torchrun')], ids=described)
def test_every_module_that_python_runs_is_there(page, words):
    assert (ROOT / f'{words[words.index("-m") + 1].replace(".", "/")}.py').is_file()


@pytest.mark.parametrize('page, words', beginning('ros2', 'launch', 'aprloc_ros'), ids=described)
def test_every_launch_command_names_a_file_and_arguments_that_exist(page, words):
    declared = set(re.findall(r"DeclareLaunchArgument\('(\w+)'", (ROOT / 'launch' / words[3]).read_text()))
    assert {word.split(':=')[0] for word in words[4:] if ':=' in word} <= declared


@pytest.mark.parametrize('page, words', [c for c in COMMANDS if c[1][0] == 'ros2'], ids=described)
def test_every_other_ros2_command_is_known_to_this_test(page, words):
    ours = {'launch aprloc_ros', 'run aprloc_ros', 'topic echo', 'topic info', 'service call', 'lifecycle get', 'lifecycle set',
            'param set'}
    assert ' '.join(words[1:3]) in ours | ELSEWHERE


@pytest.mark.parametrize('page, words', [c for c in COMMANDS if '--ros-args' in c[1] and 'aprloc_ros' in c[1] + ['aprloc_ros'] * (
    c[1][0] == 'relocalize')], ids=described)
def test_the_node_is_started_with_parameters_that_it_has(page, words):
    parameters = pytest.importorskip('aprloc_ros.ros.parameters', reason='ROS is not installed')
    given = dict(word.split(':=') for flag, word in itertools.pairwise(words) if flag == '-p')
    assert given and set(given) <= {field.name for field in dataclasses.fields(parameters.NodeParameters)}
    assert words[0] == 'relocalize' or (ROOT / 'resource' / words[3]).is_file()


@pytest.fixture(scope='module')
def node(tmp_path_factory, peer, tiny_map):
    """The peer of a node that is localized, all of whose topics are there."""
    from ros_peer import assert_answers, running_nodes
    with running_nodes(tmp_path_factory.mktemp('node'), peer, tiny_map) as start:
        start(publish_tf='none', lost_after_s=3600.0)
        peer.wait_until_active()
        assert_answers(peer)
        yield peer


def about_the_node(*words):
    return pytest.mark.parametrize('page, words', [c for c in beginning('ros2', *words) if OF_THE_ROBOT not in ' '.join(c[1])],
                                   ids=described)


@about_the_node('topic', 'echo')
def test_every_topic_is_heard_with_the_qos_of_its_command(node, page, words):
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
    publisher, = node._node.get_publishers_info_by_topic(words[3])
    flags = dict(itertools.pairwise(words))
    if '--once' in words and publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL:
        # What was said before is sent again to reliable listeners alone, and ros2 topic echo is none unless told.
        assert flags['--qos-durability'] == 'transient_local' and flags['--qos-reliability'] == 'reliable'
    if flags.get('--qos-reliability') == 'reliable':
        assert publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE


@about_the_node('service', 'call')
def test_every_service_is_there_with_its_type(node, page, words):
    node.wait_for(lambda: (words[3], [words[4]]) in node._node.get_service_names_and_types(), f'{words[3]} of {words[4]}')


@about_the_node('param', 'set')
def test_every_parameter_that_is_set_may_be_set(node, page, words):
    assert words[3] == '/relocalize' and node.set_parameter(words[4], float(words[5])).successful


@pytest.mark.parametrize('page, words', [c for c in COMMANDS if c[1][:2] == ['ros2', 'lifecycle']], ids=described)
def test_every_lifecycle_command_is_of_the_node(node, page, words):
    assert words[3] == '/relocalize' and (words[2] == 'get' or words[4] in ('configure', 'activate', 'deactivate', 'cleanup'))


ROS2 = shutil.which('ros2', path=f'{Path(sys.executable).parent}:{shutil.os.environ.get("PATH", "")}')
RUNNABLE = [(page, words) for page, words in COMMANDS if words[0] == 'ros2' and OF_THE_ROBOT not in ' '.join(words) and (
    words[1] in ('service', 'param', 'lifecycle') or words[1:3] == ['topic', 'echo'])]


def see(node):
    """The robot's camera goes on."""
    from ros_peer import PIXELS, image_message, next_stamp
    node.publish('image', image_message(PIXELS, next_stamp()))


@pytest.fixture(scope='module')
def daemon():
    """ros2cli starts one by itself, which must not stay."""
    yield
    subprocess.run([ROS2, 'daemon', 'stop'], capture_output=True, timeout=RUNS_S, check=True)


@pytest.mark.skipif(ROS2 is None, reason='ros2cli is not on PyPI; a ROS distribution has it')
@pytest.mark.parametrize('page, words', sorted(RUNNABLE, key=lambda command: 'lifecycle' in command[1]), ids=described)
def test_the_commands_about_the_node_run_as_they_stand(node, daemon, page, words):
    once = ['--once'] if words[1] == 'topic' and '--once' not in words else []   # else it goes on for ever
    process = subprocess.Popen([ROS2, *words[1:], *once], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        node.wait_for(lambda: process.poll() is not None or see(node), ' '.join(words))
    finally:
        process.kill()
        output = process.communicate()[0]
    assert process.returncode == 0 and 'Traceback' not in output, output
    if words[1] == 'service':
        assert 'success=True' in output, output


@pytest.mark.parametrize('page, words', [c for c in COMMANDS if c[1][:3] == ['ros2', 'launch', 'aprloc_ros']], ids=described)
def test_the_launch_commands_show_their_arguments(page, words):
    pytest.importorskip('launch_ros', reason='launch_ros is not on PyPI; a ROS distribution has it')
    shown = subprocess.run([ROS2, 'launch', str(ROOT / 'launch' / words[3]), '--show-args'], capture_output=True, text=True,
                           timeout=RUNS_S, check=False)
    assert shown.returncode == 0
    assert all(f"'{word.split(':=')[0]}':" in shown.stdout for word in words[4:] if ':=' in word), shown.stdout


def write_second_drive(path):
    from drive_fixtures import COUNT, DriveBag, base_pose, stamp
    with DriveBag(path) as bag:
        bag.mounting()
        bag.info()
        bag.images()
        for index in range(COUNT):
            bag.pose('/slam/pose', stamp(index), base_pose(stamp(index)))


@pytest.mark.slow
def test_the_steps_of_your_place_run_one_after_another(tmp_path, monkeypatch, capsys):
    """The build with settings that take seconds; what it knows then is little, so that the poses are not good."""
    pytest.importorskip('rclpy', reason='ROS is not installed')
    from tiny_capture import write_settings, write_wall
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('APRLOC_MAP_PATH', str(tmp_path / 'maps'))
    quick = {'build': ['--config', str(write_settings(tmp_path / 'tiny.yaml')), '--map-dir', str(tmp_path / 'maps')]}
    for index, name in enumerate(('drive', 'third_drive', 'monday', 'friday_night')):
        write_wall(tmp_path / name, late=0.25 * index)
    write_second_drive(tmp_path / 'second_drive')
    steps = [words for page, words in beginning('aprloc')   # those within the text are names alone
             if page.name == 'your_place.md' and '--preset' not in words and len(words) > 2 and words[1] not in OF_A_GOOD_MAP]
    assert [words[1] for words in steps] == ['build', 'evaluate', 'view', 'replay', 'view', 'calibrate', 'bag', 'play', 'build']
    for words in steps:
        if words[1] == 'calibrate':   # on poses in the map's frame
            words = [word.replace('second_drive', 'third_drive') for word in words]
        code, output = cli.main([*words[1:], *quick.get(words[1], [])]), capsys.readouterr()
        good = code == 0 or (words[1] == 'play' and 'the poses were NOT good' in output.out)
        assert good and 'aprloc: error' not in output.err, (words, output.err)
