"""The node's parameters: names, defaults, ranges and descriptions, once. The file config/relocalize.yaml repeats them."""

import array
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from aprloc_ros.catalogue import check_map_name
from aprloc_ros.config import from_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.gate import MAX_WRONG_SHARE
from aprloc_ros.recordings.camera_info import names_rectified
from aprloc_ros.tracking.motion import option
from aprloc_ros.tracking.tracker import TrackingOptions

_DISTANCE_M = {'range': (-1000.0, 1000.0)}


@dataclass(frozen=True)
class NodeParameters(TrackingOptions):
    """Parameters of `relocalize`, as ROS declares them and as config.from_mapping checks them.

    Metadata: `live` ones may change while the node is active, `fixed` ones never after the start.
    """

    map: str = option('', 'Name of the map to localise in')
    map_dir: str = option('', 'Directory of maps that is searched first; empty: only the usual places')
    device: str = option('auto', 'auto (CUDA if present), cpu, cuda or cuda:N')
    refiner: str = option('default', 'How the pose is refined: default (what the map was built for), none, or a name')
    refine_iterations: int = option(50, 'Most iterations of the refiner', range=(0, 10_000))
    refine_ms: float = option(300.0, 'Most milliseconds of the refiner', range=(0.0, 60_000.0))
    max_wrong_share: float = option(MAX_WRONG_SHARE, 'Most of the published poses that may be wrong', range=(0.0001, 1.0))
    autostart: bool = option(True, 'Configure and activate at the start, without a lifecycle manager', fixed=True)

    image_transport: str = option(
        'raw', 'raw: sensor_msgs/Image on image; compressed: CompressedImage on image/compressed',
        choices=('raw', 'compressed'))
    reliability: str = option(
        'best_effort', 'QoS of image and camera_info: best_effort (as sensors publish) or reliable',
        choices=('best_effort', 'reliable'))
    require_camera_info: bool = option(
        True, 'Reject images until camera_info arrives; false: without any, or one of zeros, take the camera of the map')
    rectified: bool = option(
        False, 'The images are rectified already: use P of camera_info and no distortion; so it is of topics image_rect*')
    max_image_bytes: int = option(
        100_000_000, 'Largest decoded image, width x height x 3 bytes', range=(1_000, 2_000_000_000))

    map_frame: str = option('', 'Frame of the poses; empty: the name that the map gives')
    base_frame: str = option('base_link', 'Frame of the robot whose pose is published')
    frame_prefix: str = option(
        '', 'Goes before base_frame and odom_frame, such as robot1/ where several robots share one tree of frames')
    extrinsics: str = option(
        'auto', 'Where the camera sits on base_frame: tf, parameters, or auto (tf where tf2_ros is installed)',
        choices=('auto', 'tf', 'parameters'))
    camera_xyz_m: tuple[float, float, float] = option(
        (0.0, 0.0, 0.0), 'Position of the camera in base_frame, in metres', **_DISTANCE_M)
    camera_rpy_rad: tuple[float, float, float] = option(
        (0.0, 0.0, 0.0), 'Roll, pitch, yaw of the camera body (x forward, y left, z up) in base_frame, in radians',
        range=(-6.2832, 6.2832))
    odometry: str = option(
        'topic', 'Where odometry comes from: topic (nav_msgs/Odometry on odom), tf (odom_frame to base_frame), or none',
        choices=('topic', 'tf', 'none'))
    odom_frame: str = option('odom', 'Frame of odometry, for odometry: tf; the topic names its own')

    mode: str = option(
        'continuous', 'continuous: answer every image; one_shot: only when ~/relocalize is called',
        choices=('continuous', 'one_shot'))
    relocalize_timeout_s: float = option(
        5.0, 'How long a call of ~/relocalize waits for a pose', range=(0.1, 300.0), live=True)

    publish_tf: str = option(
        'map_to_odom', 'map_to_odom (needs odometry), map_to_base, or none',
        choices=('map_to_odom', 'map_to_base', 'none'))
    transform_tolerance_s: float = option(
        0.1, 'map_to_odom is stamped so far ahead, in seconds', range=(0.0, 5.0), live=True)
    tf_rate_hz: float = option(
        20.0, 'How often map_to_odom is sent again between answers; 0: only with each answer', range=(0.0, 200.0))
    geopose: bool = option(
        False, 'Publish geographic_msgs/GeoPoseStamped on geopose; needs that package and a map that was built with GPS')
    diagnostics_period_s: float = option(1.0, 'Time between two diagnostics, in seconds', range=(0.1, 60.0))


def declare_parameters(node: Node) -> None:
    """Declare every field of NodeParameters with its description and range; say which overrides nobody knows.

    Raises AprlocError for an override of a wrong type or out of range.
    """
    for parameter in dataclasses.fields(NodeParameters):
        try:
            node.declare_parameter(parameter.name, _plain(parameter.default), _descriptor(parameter))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise AprlocError(f'{node.get_name()}: {str(error).splitlines()[0]}') from None
    unknown = sorted(name for name in node._parameter_overrides
                     if not node.has_parameter(name) and not name.startswith('qos_overrides.'))
    if unknown:
        node.get_logger().warning(f'unknown parameters are ignored: {", ".join(unknown)}')


def read_parameters(node: Node) -> NodeParameters:
    """The node's parameters as they are now, frames with their prefix, and what the image topic's name says.

    Raises AprlocError for a value that is not allowed.
    """
    values = {parameter.name: _plain(node.get_parameter(parameter.name).value)
              for parameter in dataclasses.fields(NodeParameters)}
    parameters = from_mapping(NodeParameters, values, node.get_name())
    prefix = parameters.frame_prefix
    parameters = dataclasses.replace(parameters, base_frame=prefix + parameters.base_frame,
                                     odom_frame=prefix + parameters.odom_frame,
                                     rectified=parameters.rectified or names_rectified(node.resolve_topic_name('image')))
    for name in ('map_frame', 'base_frame', 'odom_frame'):
        frame = getattr(parameters, name)
        if frame.startswith('/') or not (frame or name == 'map_frame'):
            raise AprlocError(f'{node.get_name()}: {name} is {frame!r}; TF takes no frame without a name or with a leading slash')
    return parameters


def check_changes(changes: Iterable[Parameter], node_name: str, active: bool) -> None:
    """Raises AprlocError for a value that is not allowed, and while active for any but the live; others' pass."""
    fields = {parameter.name: parameter for parameter in dataclasses.fields(NodeParameters)}
    changes = {change.name: _plain(change.value) for change in changes if change.name in fields}
    from_mapping(NodeParameters, changes, node_name)
    if changes.get('map'):
        check_map_name(changes['map'])
    settled = [name for name in changes if 'live' not in fields[name].metadata]
    if settled and active:
        raise AprlocError(f'{", ".join(settled)} can only change while the node is not active; deactivate it first')


def _plain(value: object) -> object:
    """Arrays and tuples as lists."""
    return list(value) if isinstance(value, (array.array, tuple)) else value


def _descriptor(parameter: dataclasses.Field) -> ParameterDescriptor:
    allowed = parameter.metadata
    descriptor = ParameterDescriptor(description=allowed['description'], read_only='fixed' in allowed)
    if 'choices' in allowed:
        descriptor.additional_constraints = f'one of: {", ".join(allowed["choices"])}'
    if 'range' in allowed:
        lowest, highest = allowed['range']
        if isinstance(parameter.default, int):
            descriptor.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
        elif isinstance(parameter.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=lowest, to_value=highest)]
        else:
            descriptor.additional_constraints = f'each from {lowest} to {highest}'
    return descriptor
