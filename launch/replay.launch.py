"""A bag through the node, judged: ros2 launch aprloc_ros replay.launch.py bag:=BAG map:=demo"""

import sys
from pathlib import Path

from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from aprloc_ros.catalogue import find_map
from aprloc_ros.command_line.domain import domain_environment, free_domain
from aprloc_ros.recordings.playable import check_playable
from aprloc_ros.ros import launch_checks
from aprloc_ros.starter import ending_with_us
from launch import Action, LaunchContext, LaunchDescription

RVIZ_CONFIG = Path(__file__).absolute().parent.parent / 'config/relocalize.rviz'
ARGUMENTS = [
    DeclareLaunchArgument('bag', description=(
        'rosbag2 with image, camera_info and truth, as `aprloc bag --data PATH --out BAG` writes it')),
    DeclareLaunchArgument('map', description='Name of the map to localise in; `aprloc maps` lists them'),
    DeclareLaunchArgument('report', default_value='report', description=(
        'Directory for the report: index.html with pictures, poses.csv, results.json, node.log')),
    DeclareLaunchArgument('rate', default_value='1.0', description="Times the bag's own pace, up to 100"),
    DeclareLaunchArgument('rviz', default_value='false', choices=['true', 'false'], description=(
        'Open RViz to watch; it stays until you close it'))]


def generate_launch_description() -> LaunchDescription:
    """What --show-args prints, then the processes."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """The processes, in a ROS domain of their own.

    Raises AprlocError, of one line, for an argument that cannot work: nothing has started then.
    """
    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    check_playable(Path(given('bag')))
    find_map(given('map'))
    launch_checks.check_directory('report', Path(given('report')))
    rate = launch_checks.read_rate(given('rate'))
    watch = given('rviz') == 'true'
    if watch:
        launch_checks.check_rviz(RVIZ_CONFIG)
    domain = free_domain()
    actions = [LogInfo(msg=text) for text in launch_checks.mistyped(context.argv, [a.name for a in ARGUMENTS])]
    # The player starts the node itself, waits until it listens, and judges what it answered.
    actions.append(ExecuteProcess(
        cmd=[sys.executable, '-m', 'aprloc_ros.cli', 'play', given('bag'), '--map', given('map'), '--report',
             given('report'), '--rate', str(rate), '--domain', str(domain)],
        name='aprloc_play', output='screen', additional_env=ending_with_us(),
        on_exit=[] if watch else [Shutdown(reason='the bag has been played')]))
    if watch:
        actions.append(Node(
            package='rviz2', executable='rviz2', name='rviz2', arguments=['-d', str(RVIZ_CONFIG)],
            additional_env=domain_environment(domain), on_exit=[Shutdown(reason='RViz was closed')]))
    return actions
