"""A bag through the node, judged: ros2 launch aprloc_ros replay.launch.py bag:=BAG map:=demo"""

import sys
from pathlib import Path

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from aprloc_ros.catalogue import find_map
from aprloc_ros.errors import AprlocError
from launch import LaunchContext, LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """What --show-args prints, then the processes."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description=(
            'rosbag2 with image, camera_info and truth, as `aprloc bag --data PATH --out BAG` writes it')),
        DeclareLaunchArgument('map', description='Name of the map to localise in; `aprloc maps` lists them'),
        DeclareLaunchArgument('report', default_value='report', description=(
            'Directory for the report: index.html with pictures, poses.csv, results.json, node.log')),
        DeclareLaunchArgument('rate', default_value='1.0', description="Times the bag's own pace, up to 100"),
        DeclareLaunchArgument('rviz', default_value='false', choices=['true', 'false'], description=(
            'Open RViz to watch; it stays until you close it')),
        OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[ExecuteProcess]:
    """The processes. Raises AprlocError, of one line, for a bag or map that is not there: nothing has started then."""
    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    if not Path(given('bag')).exists():
        raise AprlocError(f'bag {given("bag")} does not exist; write one with: aprloc bag --data PATH --out BAG')
    find_map(given('map'))
    watch = given('rviz') == 'true'
    # The player starts the node itself, waits until it listens, and judges what it answered.
    command = [sys.executable, '-m', 'aprloc_ros.cli', 'play', given('bag'), '--map', given('map'),
               '--report', given('report'), '--rate', given('rate')]
    processes = [ExecuteProcess(cmd=command, name='aprloc_play', output='screen',
                                on_exit=[] if watch else [Shutdown(reason='the bag has been played')])]
    if watch:
        config = PathJoinSubstitution([FindPackageShare('aprloc_ros'), 'config', 'relocalize.rviz'])
        processes.append(Node(package='rviz2', executable='rviz2', name='rviz2', arguments=['-d', config],
                              on_exit=[Shutdown(reason='RViz was closed')]))
    return processes
