"""The launch file: with launch where a distribution has it, and against recorders of its calls anywhere."""

import runpy
import sys
import types
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / 'launch/relocalize.launch.py'
ARGUMENTS = {'map', 'image', 'camera_info', 'params_file', 'namespace', 'use_sim_time', 'log_level'}


def test_with_the_real_launch():
    pytest.importorskip('launch_ros', reason='launch is not on PyPI; a ROS distribution has it')
    from launch.actions import DeclareLaunchArgument

    from launch import LaunchContext
    description = runpy.run_path(str(FILE))['generate_launch_description']()
    declared = [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]
    assert {argument.name for argument in declared} == ARGUMENTS
    assert all(argument.description for argument in declared)
    context = LaunchContext()
    context.launch_configurations['map'] = 'demo'
    for argument in declared:
        argument.visit(context)
    assert context.launch_configurations['image'] == 'image'


@pytest.fixture
def calls(monkeypatch):
    """Every constructor of launch and launch_ros that the file calls, recorded as (name, arguments, keywords)."""
    recorded = []

    def recorder(name):
        def construct(*arguments, **keywords):
            recorded.append((name, arguments, keywords))
            return (name, *arguments)
        return construct

    for module_name, names in {
            'launch': ['LaunchDescription'], 'launch.actions': ['DeclareLaunchArgument'],
            'launch.substitutions': ['LaunchConfiguration', 'PathJoinSubstitution'], 'launch_ros': [],
            'launch_ros.actions': ['Node'], 'launch_ros.parameter_descriptions': ['ParameterValue'],
            'launch_ros.substitutions': ['FindPackageShare']}.items():
        module = types.ModuleType(module_name)
        for name in names:
            setattr(module, name, recorder(name))
        monkeypatch.setitem(sys.modules, module_name, module)
    runpy.run_path(str(FILE))['generate_launch_description']()
    return recorded


def test_every_argument_is_declared_with_a_description_and_used(calls):
    declared = {arguments[0]: keywords for name, arguments, keywords in calls if name == 'DeclareLaunchArgument'}
    assert set(declared) == ARGUMENTS
    assert all(keywords['description'] for keywords in declared.values())
    assert {arguments[0] for name, arguments, _ in calls if name == 'LaunchConfiguration'} == ARGUMENTS


def test_it_starts_the_executable_of_this_package(calls):
    node, = (keywords for name, _, keywords in calls if name == 'Node')
    assert (node['package'], node['executable'], node['name']) == ('aprloc_ros', 'relocalize', 'relocalize')
    assert dict(node['remappings']) == {'image': ('LaunchConfiguration', 'image'),
                                        'camera_info': ('LaunchConfiguration', 'camera_info')}
    assert node['parameters'][0] == ('LaunchConfiguration', 'params_file')
    assert set(node['parameters'][1]) == {'map', 'use_sim_time'}
