"""Arrows point down only: every import of the package is one that its room may have (the table of the design)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'aprloc_ros'
ROS = {'action_msgs', 'builtin_interfaces', 'cv_bridge', 'diagnostic_msgs', 'geographic_msgs', 'geometry_msgs', 'launch', 'launch_ros',
       'lifecycle_msgs', 'nav_msgs', 'rcl_interfaces', 'rclpy', 'sensor_msgs', 'std_msgs', 'std_srvs', 'tf2_msgs',
       'tf2_ros', 'visualization_msgs'}
ROS_ROOMS = {'messages', 'clocks', 'frame_order', 'launch_checks', 'listener', 'transforms', 'odometry', 'parameters',
             'inputs', 'frames', 'loaded_map', 'geopose', 'rate', 'initial_pose', 'services',
             'tf_output', 'display', 'announcement', 'publication', 'stream', 'transitions', 'node', 'executable', 'player'}
FOUNDATION = {'bit_depth', 'errors', 'config', 'geometry', 'camera', 'histogram', 'device', 'distributions', 'covariance',
              'scene', 'points', 'patches', 'similarity'}
JUDGED = FOUNDATION | {'refinement', 'gate', 'geodesy', 'map_frame', 'manifest'}
LOADED = JUDGED | {'networks', 'fields', 'map_bundle'}
MESSAGES = {'errors', 'camera', 'geometry', 'message_fields', 'messages'}
BAG = {'errors', 'camera', 'geometry', 'recording', 'message_fields', 'bag_messages', 'trajectory', 'tf_tree'}
FLOORS = {'command_line', 'placement', 'ros', 'recordings', 'scoring', 'tracking', 'viewing'}   # folders whose every module is a room
# A room and all that it may import of ours; rooms that are not named here may import any but the ROS rooms.
MAY_IMPORT = {
    'errors': set(), 'config': {'errors'}, 'device': {'errors'}, 'geometry': {'errors'}, 'camera': {'errors'},
    'bit_depth': set(), 'catalogue': {'errors', 'table', 'whole_files'}, 'table': set(), 'options': set(), 'outputs': {'errors'}, 'domain': {'errors'}, 'starter': set(), 'node_process': {'starter'}, 'histogram': set(),
    'distributions': set(), 'covariance': {'errors', 'geometry'}, 'intrinsics': {'errors', 'camera'},
    'similarity': {'errors', 'geometry'}, 'scene': {'errors', 'geometry', 'similarity'}, 'patches': {'errors', 'similarity'},
    'points': {'errors', 'geometry', 'patches', 'similarity'}, 'geodesy': set(),
    'map_frame': {'geodesy', 'similarity'},
    'networks': {'errors', 'geometry', 'camera', 'histogram', 'networks'},
    'fields': {'errors', 'geometry', 'camera', 'histogram', 'scene', 'fields'},
    'refinement': {'errors', 'geometry', 'camera', 'histogram', 'scene', 'points', 'patches', 'networks', 'fields',
                   'refinement'},
    'gate': {'errors', 'geometry', 'covariance', 'distributions', 'refinement'},
    'lens': {'errors', 'camera'},
    'manifest': FOUNDATION | {'catalogue', 'gate', 'lens', 'map_frame'},
    'whole_files': {'errors'},
    'map_bundle': FOUNDATION | {'catalogue', 'manifest', 'networks', 'fields', 'whole_files'},
    'atlas': FOUNDATION | {'catalogue', 'manifest', 'map_bundle', 'networks', 'whole_files'},
    'moved_map': FOUNDATION | {'catalogue', 'manifest', 'map_bundle'},
    'robust_fit': set(), 'slow_errors': set(), 'upright': {'geometry'},
    'aligned': {'similarity'},
    'alignment': {'aligned', 'errors', 'geometry', 'robust_fit', 'similarity', 'slow_errors', 'upright'},
    'refiners': LOADED,
    'pace': set(), 'lens_watch': {'camera', 'refinement'},
    'estimate': {'camera', 'refinement'},
    'localizer': LOADED | {'estimate', 'refiners', 'pace', 'lens_watch'},
    # What was estimated, and how sure it was.
    'uncertainty': {'errors', 'distributions'}, 'uncertainty_table': {'table', 'uncertainty'},
    'truth_check': {'errors', 'evaluation', 'geometry', 'manifest'}, 'verdict': set(),
    'uncertainty_figure': {'distributions', 'uncertainty'}, 'evaluation': {'errors', 'geometry', 'covariance', 'uncertainty', 'table'},
    # What was recorded.
    'repair': {'errors'}, 'recording': {'errors', 'repair', 'skipped'}, 'message_fields': {'errors', 'geometry'},
    'camera_info': {'errors', 'camera', 'intrinsics'}, 'camera_infos': {'message_fields'},
    'decoding': {'errors', 'bit_depth', 'decoding'}, 'stamp_order': set(), 'bag_messages': {'camera', 'geometry'},
    'trajectory': {'errors', 'geometry'}, 'skipped': {'errors'},
    'pose_messages': {'errors', 'message_fields', 'skipped', 'stamp_order', 'trajectory'},
    'tf_tree': {'errors', 'geometry', 'message_fields', 'pose_messages', 'skipped', 'trajectory'},
    'playable': {'errors', 'recording'}, 'truth': BAG | {'pose_messages', 'skipped'}, 'odometry_break': {'geometry'}, 'odometry_topic': BAG | {'odometry_break', 'pose_messages', 'truth'}, 'bags': BAG | {'whole_files'},
    'bag_images': BAG | {'camera_info', 'camera_infos', 'decoding'},
    # What is shown.
    'overlay': set(), 'cloud': {'camera', 'fields', 'histogram', 'scene'},
    'viewer': {'camera', 'cloud', 'errors', 'geometry'},
    # What is believed.
    'motion': {'geometry'}, 'odometry_check': {'geometry', 'motion'},
    'stuck_camera': {'geometry', 'motion'}, 'warped_stream': {'estimate'},
    'stamp_delay': {'geometry', 'motion'},
    'tracker': {'geometry', 'distributions', 'motion', 'odometry_check', 'stamp_delay', 'stuck_camera', 'warped_stream'},
    'answer': {'errors', 'camera', 'covariance', 'estimate', 'geometry', 'localizer', 'tracker'},
    # The node.
    'worker': set(), 'announcement': {'frames'},
    'parameters': {'errors', 'camera_info', 'catalogue', 'config', 'gate', 'motion', 'tracker'},
    'messages': MESSAGES, 'services': set(), 'transitions': set(), 'clocks': set(), 'listener': set(), 'launch_checks': {'errors'},
    'frame_order': {'stamp_order'},
    'initial_pose': MESSAGES,
    'transforms': MESSAGES,
    'odometry': MESSAGES | {'odometry_break', 'stamp_order', 'transforms'},
    'inputs': {'camera_info', 'camera_infos', 'clocks', 'errors', 'listener', 'message_fields', 'odometry', 'parameters'},
    'loaded_map': {'map_bundle'},
    'tf_output': MESSAGES | {'odometry', 'parameters'},
    'rate': set(), 'geopose': MESSAGES | {'geodesy'},
    'frames': FOUNDATION | MESSAGES | {'answer', 'camera_info', 'decoding', 'geopose', 'localizer', 'odometry',
                                       'parameters', 'transforms'},
    'display': {'answer', 'camera', 'clocks', 'cloud', 'fields', 'map_bundle', 'overlay', 'message_fields', 'messages',
                'worker'},
    'publication': MESSAGES | {'answer', 'covariance', 'frames', 'odometry', 'parameters', 'tf_output'},
    'stream': MESSAGES | {'announcement', 'answer', 'clocks', 'frame_order', 'frames', 'initial_pose', 'inputs', 'listener', 'odometry',
                          'parameters', 'publication', 'rate', 'services', 'tracker', 'transforms', 'worker'},
    'node': MESSAGES | {'catalogue', 'clocks', 'display', 'frames', 'geopose', 'loaded_map', 'localizer', 'map_frame', 'map_bundle', 'odometry', 'pace',
                        'parameters', 'refinement', 'services', 'stream', 'transforms', 'transitions'},
    'executable': {'errors', 'node', 'starter'},
    'relocalize': {'executable'},
}
# The rooms that the command line is made of may reach for training and for ROS, inside functions alone.
OUTER_ROOMS = {'cli', 'making', 'making_options', 'using', 'using_options', 'demo', 'drive', 'benchmark'}


def modules():
    """Module name -> syntax tree, of aprloc_ros without training."""
    paths = [path for path in PACKAGE.rglob('*.py') if 'training' not in path.relative_to(PACKAGE).parts]
    return {'.'.join(path.relative_to(ROOT).with_suffix('').parts): ast.parse(path.read_text()) for path in paths}


def imports(tree, at_top_only=False):
    """Full names of what a tree imports."""
    nodes = tree.body if at_top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def room(name):
    """aprloc_ros.fields.nerf -> fields, aprloc_ros.ros.node -> node; the package itself -> ''."""
    parts = name.split('.') + ['', '']
    return parts[2] if parts[1] in FLOORS else parts[1]


def ours(names):
    return {room(name) for name in names if name.split('.')[0] == 'aprloc_ros'} - {'', '__version__', '__init__'}


MODULES = modules()


@pytest.mark.parametrize('name', MODULES)
def test_a_room_imports_only_what_it_may(name):
    own = room(name)
    used = ours(imports(MODULES[name]))
    if own in MAY_IMPORT:
        assert used <= MAY_IMPORT[own], f'{name} imports {used - MAY_IMPORT[own]}'
    elif own not in OUTER_ROOMS | ROS_ROOMS:
        assert not used & (ROS_ROOMS | OUTER_ROOMS | {'training'}), f'{name} imports {used & (ROS_ROOMS | OUTER_ROOMS)}'


@pytest.mark.parametrize('name', MODULES)
def test_ros_stays_in_its_rooms(name):
    used = {imported.split('.')[0] for imported in imports(MODULES[name])} & ROS
    if room(name) == 'decoding':
        used -= {'cv_bridge'}  # the last resort for rare encodings, where it is installed
    assert room(name) in ROS_ROOMS or not used, f'{name} imports {used}'


@pytest.mark.parametrize('name', MODULES)
def test_the_node_is_imported_from_above_alone(name):
    used = {imported for imported in imports(MODULES[name]) if imported.startswith('aprloc_ros.ros')}
    above = name.startswith('aprloc_ros.ros.') or room(name) in OUTER_ROOMS | {'relocalize'}
    assert above or not used, f'{name} imports {used}'


@pytest.mark.parametrize('name', MODULES)
def test_training_is_imported_by_the_command_line_alone_and_lazily(name):
    assert 'training' not in ours(imports(MODULES[name], at_top_only=True))
    assert room(name) in OUTER_ROOMS or 'training' not in ours(imports(MODULES[name]))


def test_no_module_is_called_training_at_the_top():
    trees = [*MODULES.values(), *(ast.parse(path.read_text()) for path in (ROOT / 'training').rglob('*.py'))]
    assert not [name for tree in trees for name in imports(tree) if name.split('.')[0] == 'training']


def test_there_is_no_cycle():
    below = {}
    for name, tree in MODULES.items():
        below.setdefault(room(name), set()).update(ours(imports(tree, at_top_only=True)) - {room(name)})

    def visit(current, path):
        assert current not in path, ' -> '.join([*path, current])
        for lower in below.get(current, ()):
            visit(lower, [*path, current])

    for start in below:
        visit(start, [])


# Rooms of training/, and what of it each may import besides itself; the benchmarks may import any.
GROUND = {'datasets', 'images', 'evenly', 'hardware', 'resumption'}   # the last three import nothing of it
TRAINING_MAY_IMPORT = {
    'datasets': set(), 'place': set(), 'images': {'datasets'}, 'structure': GROUND, 'checks': GROUND | {'structure'},
    'stages': GROUND | {'structure'}, 'calibration': GROUND, 'posing': GROUND | {'structure', 'checks'},
    'adapting': GROUND | {'posing', 'stages'}}
TRAINING = ROOT / 'training'


@pytest.mark.parametrize('name', [str(path.relative_to(TRAINING)) for path in sorted(TRAINING.glob('*/**/*.py'))])
def test_a_room_of_training_imports_only_what_it_may(name):
    own = name.split('/')[0]
    used = {parts[2] for parts in (imported.split('.') for imported in imports(ast.parse((TRAINING / name).read_text())))
            if parts[:2] == ['aprloc_ros', 'training']} - {own}
    assert used <= TRAINING_MAY_IMPORT.get(own, used), f'{name} imports {used - TRAINING_MAY_IMPORT[own]}'
    assert 'benchmarks' not in used, f'{name} imports the benchmarks'
