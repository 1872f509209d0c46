"""ros2 launch aprloc_ros relocalize.launch.py map:=demo"""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """The node, its parameters from a file, its topics from arguments."""
    defaults = PathJoinSubstitution([FindPackageShare('aprloc_ros'), 'config', 'relocalize.yaml'])
    arguments = [
        DeclareLaunchArgument('map', description='Name of the map to localise in; `aprloc maps` lists them'),
        DeclareLaunchArgument('image', default_value='image', description='Topic of the camera image'),
        DeclareLaunchArgument('camera_info', default_value='camera_info', description='Topic of its camera_info'),
        DeclareLaunchArgument('params_file', default_value=defaults, description='YAML file of the parameters'),
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node and its topics'),
        DeclareLaunchArgument('use_sim_time', default_value='false', description='Take the time from /clock'),
        DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal'),
    ]
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    node = Node(
        package='aprloc_ros', executable='relocalize', name='relocalize', namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('params_file'),
                    {'map': ParameterValue(LaunchConfiguration('map'), value_type=str), 'use_sim_time': use_sim_time}],
        remappings=[('image', LaunchConfiguration('image')), ('camera_info', LaunchConfiguration('camera_info'))],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        output='screen')
    return LaunchDescription([*arguments, node])
