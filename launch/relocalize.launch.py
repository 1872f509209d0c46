"""The node, and RViz if wanted: ros2 launch aprloc_ros relocalize.launch.py map:=demo image:=/camera/image_raw"""

from collections.abc import Iterator
from pathlib import Path

import yaml
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from aprloc_ros.catalogue import find_map
from launch import LaunchContext, LaunchDescription

CONFIG = FindPackageShare('aprloc_ros'), 'config'
YES_OR_NO = ['true', 'false']
# Topics of config/relocalize.rviz; RViz looks for them in the node's namespace.
RVIZ_TOPICS = ('pose_with_covariance', 'relocalize/path', 'relocalize/overlay', 'relocalize/map_cloud',
               'relocalize/map_cameras')


def generate_launch_description() -> LaunchDescription:
    """What --show-args prints, then the processes."""
    return LaunchDescription([
        DeclareLaunchArgument('map', description='Name of the map to localise in; `aprloc maps` lists them'),
        DeclareLaunchArgument('image', default_value='image', description=(
            'Topic of the camera image (sensor_msgs/Image), such as /camera/image_raw')),
        DeclareLaunchArgument('camera_info', default_value='camera_info', description=(
            "Topic of the camera's calibration (sensor_msgs/CameraInfo), such as /camera/camera_info")),
        DeclareLaunchArgument('odom', default_value='odom', description=(
            'Topic of the odometry (nav_msgs/Odometry), for the transform map -> odom')),
        DeclareLaunchArgument('compressed', default_value='auto', choices=['auto', *YES_OR_NO], description=(
            'true: take sensor_msgs/CompressedImage from <image>/compressed; false: raw images; auto: as params_file '
            'says')),
        DeclareLaunchArgument('rviz', default_value='false', choices=YES_OR_NO, description=(
            'Open RViz with the map, the pose with its covariance, the path and the overlay')),
        DeclareLaunchArgument('params_file', default_value=PathJoinSubstitution([*CONFIG, 'relocalize.yaml']),
                              description="YAML file of the node's parameters; copy the default, change what differs"),
        DeclareLaunchArgument('namespace', default_value='', description=(
            'Namespace of the node and of every topic that is not given with a leading slash')),
        DeclareLaunchArgument('use_sim_time', default_value='false', choices=YES_OR_NO, description=(
            'Take the time from /clock: for a simulation, or a bag played with --clock')),
        DeclareLaunchArgument('log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
                              description='What the node says at least'),
        OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Node]:
    """The processes. Raises AprlocError, of one line, when the map is not there: nothing has started then."""
    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    find_map(given('map'), map_dir_in(Path(given('params_file'))))
    parameters = {'map': ParameterValue(given('map'), value_type=str), 'use_sim_time': given('use_sim_time') == 'true'}
    if given('compressed') != 'auto':
        parameters['image_transport'] = 'compressed' if given('compressed') == 'true' else 'raw'
    nodes = [Node(package='aprloc_ros', executable='relocalize', name='relocalize', namespace=given('namespace'),
                  parameters=[given('params_file'), parameters],
                  remappings=[(topic, given(topic)) for topic in ('image', 'camera_info', 'odom')],
                  arguments=['--ros-args', '--log-level', given('log_level')], output='screen')]
    if given('rviz') == 'true':
        nodes.append(Node(package='rviz2', executable='rviz2', name='rviz2', namespace=given('namespace'),
                          parameters=[{'use_sim_time': parameters['use_sim_time']}],
                          remappings=[(f'/{topic}', topic) for topic in RVIZ_TOPICS],
                          arguments=['-d', PathJoinSubstitution([*CONFIG, 'relocalize.rviz'])]))
    return nodes


def map_dir_in(params_file: Path) -> str | None:
    """The parameter map_dir of a file of parameters, for whichever name of the node."""
    def blocks(tree: object) -> Iterator[dict]:
        for name, branch in tree.items() if isinstance(tree, dict) else ():
            yield from [branch] if name == 'ros__parameters' else blocks(branch)

    found = [block['map_dir'] for block in blocks(yaml.safe_load(params_file.read_text())) if block.get('map_dir')]
    return found[-1] if found else None
