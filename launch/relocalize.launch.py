"""The node, and RViz if wanted.

ros2 launch aprloc_ros relocalize.launch.py map:=demo image:=/camera/image_raw camera_info:=/camera/camera_info odom:=/odom
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from aprloc_ros.catalogue import find_map
from aprloc_ros.ros import launch_checks
from aprloc_ros.starter import ending_with_us
from launch import Action, LaunchContext, LaunchDescription

CONFIG = Path(__file__).absolute().parent.parent / 'config'
RVIZ_CONFIG = CONFIG / 'relocalize.rviz'
YES_OR_NO = ['true', 'false']
# Topics of config/relocalize.rviz; RViz looks for them in the node's namespace.
RVIZ_TOPICS = ('pose_with_covariance', 'relocalize/path', 'relocalize/overlay', 'relocalize/map_cloud',
               'relocalize/map_cameras', 'initialpose')
ARGUMENTS = [
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
    DeclareLaunchArgument('params_file', default_value=str(CONFIG / 'relocalize.yaml'), description=(
        "YAML file of the node's parameters; copy the default, change what differs")),
    DeclareLaunchArgument('namespace', default_value='', description=(
        'Namespace of the node and of every topic that is not given with a leading slash')),
    DeclareLaunchArgument('tf', default_value='/tf', description=(
        "Topic of transforms; tf: that of the namespace, as Nav2's robots have it. The static ones come from <tf>_static")),
    DeclareLaunchArgument('frame_prefix', default_value='', description=(
        'Goes before base_frame and odom_frame, such as robot1/ where several robots share /tf; empty: as params_file '
        'says')),
    DeclareLaunchArgument('autostart', default_value='auto', choices=['auto', *YES_OR_NO], description=(
        'false: a lifecycle manager configures and activates the node; auto: as params_file says')),
    DeclareLaunchArgument('use_sim_time', default_value='false', choices=YES_OR_NO, description=(
        'Take the time from /clock: for a simulation, or a bag played with --clock')),
    DeclareLaunchArgument('log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
                          description='What the node says at least')]


def generate_launch_description() -> LaunchDescription:
    """What --show-args prints, then the processes."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """The processes. Raises AprlocError, of one line, for an argument that cannot work: nothing has started then."""
    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    topics = {name: given(name) for name in ('image', 'camera_info', 'odom', 'tf')}
    launch_checks.check_names(given('namespace'), **topics)
    launch_checks.check_frame_prefix(given('frame_prefix'))
    parameters_file = Path(given('params_file')).expanduser()
    node = f'/{given("namespace").strip("/")}/relocalize'.replace('//', '/')
    find_map(given('map'), launch_checks.map_dir_in(launch_checks.read_parameters_file(parameters_file, node)))
    if given('rviz') == 'true':
        launch_checks.check_rviz(RVIZ_CONFIG)
    tf = [('/tf', given('tf')), ('/tf_static', f'{given("tf")}_static')]
    use_sim_time = given('use_sim_time') == 'true'
    actions = [LogInfo(msg=text) for text in launch_checks.mistyped(context.argv, [a.name for a in ARGUMENTS])]
    actions.append(Node(
        package='aprloc_ros', executable='relocalize', name='relocalize', namespace=given('namespace'),
        parameters=[str(parameters_file), {'use_sim_time': use_sim_time, **chosen(given)}],
        remappings=[*((name, topics[name]) for name in ('image', 'camera_info', 'odom')), *tf],
        arguments=['--ros-args', '--log-level', given('log_level')], output='screen', additional_env=ending_with_us()))
    if given('rviz') == 'true':
        actions.append(Node(
            package='rviz2', executable='rviz2', name='rviz2', namespace=given('namespace'),
            parameters=[{'use_sim_time': use_sim_time}],
            remappings=[*((f'/{topic}', topic) for topic in RVIZ_TOPICS), *tf], arguments=['-d', str(RVIZ_CONFIG)]))
    return actions


def chosen(given) -> dict:
    """Parameters that the arguments set, over those of the file."""
    parameters = {'map': ParameterValue(given('map'), value_type=str)}   # a map called 12 stays a text
    if given('compressed') != 'auto':
        parameters['image_transport'] = 'compressed' if given('compressed') == 'true' else 'raw'
    if given('frame_prefix'):
        parameters['frame_prefix'] = ParameterValue(given('frame_prefix'), value_type=str)
    if given('autostart') != 'auto':
        parameters['autostart'] = given('autostart') == 'true'
    return parameters
