"""What a node says once when it has become active: what it waits for, on which topics, and what it will publish."""

from collections.abc import Iterator, Mapping

from rclpy.node import Node

from aprloc_ros.ros.frames import Setup

_ARROWS = {'map_to_odom': 'odom_frame', 'map_to_base': 'base_frame'}   # publish_tf -> the parameter that names its child


def announcement(node: Node, setup: Setup, inputs: Mapping[str, str]) -> Iterator[str]:
    """Lines for the log. inputs: 'image', 'camera_info' and perhaps 'odometry' -> topic, type and QoS."""
    parameters = setup.parameters
    for name, where in inputs.items():
        yield f'waits for {name} on {where}{_remark(name, setup)}'
    pose, full_pose, status, tf = map(node.resolve_topic_name, ('pose', 'pose_with_covariance', '~/status', '/tf'))
    yield (f'will publish the pose of {parameters.base_frame} in {setup.map_frame} on {pose} and {full_pose} (reliable), '
           f'from {parameters.confirmations} consistent answers on; {status} and /diagnostics say how it is')
    yield _transform(setup, tf)


def _remark(name: str, setup: Setup) -> str:
    parameters = setup.parameters
    if name == 'image' and parameters.mode == 'one_shot':
        return ': one is answered whenever ~/relocalize is called'
    if name == 'camera_info':
        return ': no image is answered without' if parameters.require_camera_info else ", else takes the map's camera"
    if name == 'odometry' and parameters.publish_tf == 'map_to_odom' and setup.send_transform is not None:
        return ': no transform is published without'
    return ''


def _transform(setup: Setup, topic: str) -> str:
    parameters = setup.parameters
    arrow = _ARROWS.get(parameters.publish_tf)
    if arrow is None or setup.send_transform is None or (arrow == 'odom_frame' and setup.odometry is None):
        return 'will publish no transform'
    return f'will publish the transform {setup.map_frame} -> {getattr(parameters, arrow)} on {topic}'
