"""The node's parameters: names, defaults, ranges and descriptions, once. The file config/relocalize.yaml repeats them."""

import array
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from aprloc_ros.config import from_mapping
from aprloc_ros.errors import AprlocError


def _parameter(default: object, description: str, **allowed: tuple):
    """A field of a parameter; allowed: `range` (lowest, highest) or `choices`, as in aprloc_ros.config."""
    return field(default=default, metadata={'description': description, **allowed})


_DISTANCE_M = {'range': (-1000.0, 1000.0)}


@dataclass(frozen=True)
class NodeParameters:
    """Parameters of `relocalize`, as ROS declares them and as config.from_mapping checks them."""

    map: str = _parameter('', 'Name of the map to localise in')
    map_dir: str = _parameter('', 'Directory of maps that is searched first; empty: only the usual places')
    device: str = _parameter('auto', 'auto (CUDA if present), cpu, cuda or cuda:N')
    autostart: bool = _parameter(True, 'Configure and activate at the start, without a lifecycle manager')
    image_transport: str = _parameter(
        'raw', 'raw: sensor_msgs/Image on image; compressed: CompressedImage on image/compressed',
        choices=('raw', 'compressed'))
    reliability: str = _parameter(
        'best_effort', 'QoS of image and camera_info: best_effort (as sensors publish) or reliable',
        choices=('best_effort', 'reliable'))
    require_camera_info: bool = _parameter(
        True, 'Reject images until camera_info arrives; false: take the camera that the map was built with')
    rectified: bool = _parameter(
        False, 'The images are rectified already (image_rect): use P of camera_info and no distortion')
    max_image_bytes: int = _parameter(
        100_000_000, 'Largest decoded image, width x height x 3 bytes', range=(1_000, 2_000_000_000))
    map_frame: str = _parameter('', 'Frame of the poses; empty: the name that the map gives')
    base_frame: str = _parameter('base_link', 'Frame of the robot whose pose is published')
    extrinsics: str = _parameter(
        'auto', 'Where the camera sits on base_frame: tf, parameters, or auto (tf where tf2_ros is installed)',
        choices=('auto', 'tf', 'parameters'))
    camera_xyz_m: tuple[float, float, float] = _parameter(
        (0.0, 0.0, 0.0), 'Position of the camera in base_frame, in metres', **_DISTANCE_M)
    camera_rpy_rad: tuple[float, float, float] = _parameter(
        (0.0, 0.0, 0.0), 'Roll, pitch, yaw of the camera body (x forward, y left, z up) in base_frame, in radians',
        range=(-6.2832, 6.2832))
    publish_tf: str = _parameter(
        'map_to_odom', 'map_to_odom (needs the topic odom), map_to_base, or none',
        choices=('map_to_odom', 'map_to_base', 'none'))
    diagnostics_period_s: float = _parameter(1.0, 'Time between two diagnostics, in seconds', range=(0.1, 60.0))


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
    """The node's parameters as they are now. Raises AprlocError for a value that is not allowed."""
    values = {parameter.name: _plain(node.get_parameter(parameter.name).value)
              for parameter in dataclasses.fields(NodeParameters)}
    return from_mapping(NodeParameters, values, node.get_name())


def check_changes(changes: Iterable[Parameter], node_name: str, active: bool) -> None:
    """Raises AprlocError for a value that is not allowed, and for any while active; use_sim_time and such pass."""
    known = {parameter.name for parameter in dataclasses.fields(NodeParameters)}
    changes = {change.name: _plain(change.value) for change in changes if change.name in known}
    from_mapping(NodeParameters, changes, node_name)
    if changes and active:
        raise AprlocError(f'{", ".join(changes)} can only change while the node is not active; deactivate it first')


def _plain(value: object) -> object:
    """Arrays and tuples as lists."""
    return list(value) if isinstance(value, (array.array, tuple)) else value


def _descriptor(parameter: dataclasses.Field) -> ParameterDescriptor:
    allowed = parameter.metadata
    descriptor = ParameterDescriptor(description=allowed['description'])
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
