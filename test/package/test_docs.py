"""The documents keep up with the code: their commands parse, their parameters, topics, files and links exist."""

import dataclasses
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image
from repository import ROOT

from aprloc_ros import cli

PAGES = sorted((ROOT / 'docs').rglob('*.md'))
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```', re.MULTILINE | re.DOTALL)
LAUNCH_ARGUMENT = re.compile(r"DeclareLaunchArgument\('(\w+)'")


def blocks(page, language):
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def shell_lines(beginning):
    """(page, words) of every line in a sh block that begins so."""
    return [(page, shlex.split(line)) for page in PAGES for text in blocks(page, 'sh') for line in text.splitlines()
            if line.startswith(beginning)]


def described(value):
    return value.stem if isinstance(value, Path) else ' '.join(value)


def test_there_are_the_pages_that_the_readme_names():
    assert {page.stem for page in PAGES} >= {'integration', 'your_place', 'datasets', 'troubleshooting', 'node', 'how_it_works'}


def links(page):
    """(target as it is written, the file that it leads to) of a page's links and pictures into this repository."""
    targets = re.findall(r'\]\(([^)#]+)\)', page.read_text())
    return [(target, (page.parent / target).resolve()) for target in targets if not target.startswith('https://')]


def test_the_index_names_every_page():
    for index, pages in (('docs/README.md', 'docs/*.md'), ('docs/figures.md', 'docs/figures/*.md')):
        named = {path for _, path in links(ROOT / index)}
        assert {page for page in ROOT.glob(pages) if page != ROOT / index} <= named


def test_the_readme_is_short_and_its_pictures_are_small():
    readme = ROOT / 'README.md'
    assert len(readme.read_text().splitlines()) <= 130
    pictures = [path for target, path in links(readme) if path.suffix in ('.webp', '.gif', '.png')]
    assert any(getattr(Image.open(path), 'is_animated', False) for path in pictures)
    assert sum(path.stat().st_size for path in pictures) < 3_000_000
    assert (ROOT / 'docs/example.jpg').stat().st_size < 100_000


@pytest.mark.parametrize('page', [ROOT / 'README.md', *PAGES], ids=lambda page: page.name)
def test_that_nothing_has_run_on_a_gpu_stands_where_one_is_recommended(page):
    text = ' '.join(page.read_text().split())
    assert '--device cuda' not in text or re.search('run on (one|a GPU) yet|run on a GPU', text)


def test_how_long_a_build_takes_is_said_once():
    said = [page.name for page in (ROOT / 'README.md', *PAGES)
            for _ in re.findall(r'quarter of an hour|half an hour|\d+ minutes on', page.read_text())]
    assert said == ['README.md']


def test_every_launch_line_with_a_camera_names_the_odometry_that_its_transform_needs():
    """Where publish_tf is map_to_odom, as by default."""
    for page in (ROOT / 'README.md', *PAGES):
        for line in page.read_text().splitlines():
            if line.startswith('ros2 launch aprloc_ros relocalize.launch.py') and '--show-args' not in line:
                assert 'odom:=' in line, f'{page.name}: {line}'


@pytest.mark.parametrize('page, words', shell_lines('aprloc '), ids=described)
def test_every_command_is_one_that_the_command_line_takes(page, words, capsys):
    try:
        cli._parser().parse_args(words[1:])
    except SystemExit:
        pytest.fail(f'{page.name}: {" ".join(words)}: {capsys.readouterr().err.splitlines()[-1]}')


def test_commands_within_the_text_exist():
    subparsers = next(action for action in cli._parser()._actions if hasattr(action, 'choices') and action.choices)
    named = {(page.name, name) for page in PAGES for name in re.findall(r'`aprloc (\w+)', page.read_text())}
    assert named and not {(page, name) for page, name in named if name not in subparsers.choices}


@pytest.mark.parametrize('page, words', shell_lines('ros2 launch aprloc_ros'), ids=described)
def test_every_launch_command_names_a_file_and_arguments_that_exist(page, words):
    declared = set(LAUNCH_ARGUMENT.findall((ROOT / 'launch' / words[3]).read_text()))
    given = {word.split(':=')[0] for word in words[4:] if ':=' in word}
    assert given <= declared, page.name
    assert given or '--show-args' in words


def test_launch_arguments_within_the_text_exist():
    declared = {name for path in (ROOT / 'launch').glob('*.py') for name in LAUNCH_ARGUMENT.findall(path.read_text())}
    for page in PAGES:
        assert set(re.findall(r'`(\w+):=\w*`', page.read_text())) <= declared, page.name


def relocalize_parameters():
    """Every parameter of the node that a page's YAML or a file in config/ sets: (where, name, value)."""
    texts = [(page.name, text) for page in PAGES for text in blocks(page, 'yaml')]
    texts += [(path.name, path.read_text()) for path in sorted((ROOT / 'config').glob('*.yaml'))]
    for where, text in texts:
        tree = yaml.safe_load(text)
        for node in ('relocalize', '/**'):
            block = tree.get(node) if isinstance(tree, dict) else None
            if isinstance(block, dict) and 'ros__parameters' in block:
                yield from ((where, name, value) for name, value in block['ros__parameters'].items())


def test_every_parameter_in_the_snippets_exists_and_has_an_allowed_value():
    parameters = pytest.importorskip('aprloc_ros.ros.parameters', reason='ROS is not installed')
    from aprloc_ros.config import from_mapping
    found = list(relocalize_parameters())
    assert {'integration.md', 'troubleshooting.md', 'nav2_localization.yaml', 'relocalize.yaml'} <= {
        where for where, *_ in found}
    for where, name, value in found:
        from_mapping(parameters.NodeParameters, {name: value}, where)


def test_parameters_in_the_text_exist():
    parameters = pytest.importorskip('aprloc_ros.ros.parameters', reason='ROS is not installed')
    known = {field.name for field in dataclasses.fields(parameters.NodeParameters)}
    for page in PAGES:
        for name in re.findall(r'`(\w+): [\w.]+`', page.read_text()):
            assert name in known, f'{page.name}: {name}'


def test_every_yaml_and_xml_block_parses():
    for page in PAGES:
        for text in blocks(page, 'yaml'):
            assert isinstance(yaml.safe_load(text), dict), page.name
        for text in blocks(page, 'xml'):
            ElementTree.fromstring(text)


def test_capture_yaml_is_one_that_the_reader_takes(tmp_path):
    from aprloc_ros.training.datasets.choice import read_choice
    text, = (text for text in blocks(ROOT / 'docs/your_place.md', 'yaml') if 'image_topic' in text)
    (tmp_path / 'capture.yaml').write_text(text)
    read = dataclasses.asdict(read_choice(tmp_path))
    assert {key: value for key, value in read.items() if value} == yaml.safe_load(text)


def test_links_lead_somewhere():
    for page in (ROOT / 'README.md', *PAGES):
        assert not [target for target, path in links(page) if not path.is_file()], page.name


@pytest.mark.parametrize('name', ['nav2_localization', 'robot_localization_map'])
def test_the_snippets_of_the_integration_page_are_those_of_the_files(name):
    whole = yaml.safe_load((ROOT / f'config/{name}.yaml').read_text())
    shown = [yaml.safe_load(text) for text in blocks(ROOT / 'docs/integration.md', 'yaml')]
    parts = [(node, block['ros__parameters']) for tree in shown for node, block in tree.items() if node in whole]
    assert parts
    for node, parameters in parts:
        for key, value in parameters.items():
            assert whole[node]['ros__parameters'][key] == value, key


def test_the_filter_takes_the_topics_of_the_node_and_fifteen_switches_each():
    parameters = yaml.safe_load((ROOT / 'config/robot_localization_map.yaml').read_text())['ekf_map']['ros__parameters']
    assert (parameters['pose0'], parameters['odom0']) == ('pose_with_covariance', 'odom')
    for key in ('pose0_config', 'odom0_config'):
        assert len(parameters[key]) == 15 and all(isinstance(switch, bool) for switch in parameters[key])
    assert parameters['world_frame'] == parameters['map_frame']   # REP-105: this filter publishes map -> odom
    positions, velocities = parameters['pose0_config'], parameters['odom0_config']
    assert any(positions[:6]) and not any(positions[6:]) and not any(velocities[:6]) and any(velocities[6:12])
