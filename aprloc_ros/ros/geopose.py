"""The robot's pose on Earth, where the map knows where it lies and geographic_msgs is installed."""

from collections.abc import Callable

from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from std_msgs.msg import Header
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.placement.geodesy import GeodeticOrigin, from_enu
from aprloc_ros.ros.messages import pose_to_message

# Publishes a stamp, a frame and T_map_base [4, 4].
SendGeoPose = Callable[[Time, str, Tensor], None]


def make_publisher(node: LifecycleNode) -> LifecyclePublisher:
    """Of GeoPoseStamped on `geopose`. Raises AprlocError where geographic_msgs is not installed."""
    try:
        from geographic_msgs.msg import GeoPoseStamped
    except ImportError:
        raise AprlocError('the parameter geopose is true but geographic_msgs is not installed; install '
                          'ros-$ROS_DISTRO-geographic-msgs, or set geopose to false') from None
    return node.create_lifecycle_publisher(GeoPoseStamped, 'geopose', 10)


def check_origin(origin: GeodeticOrigin | None) -> GeodeticOrigin:
    """The origin of a map that knows where it lies; AprlocError for any other."""
    if origin is None:
        raise AprlocError('the parameter geopose is true but the map does not know where on Earth it lies; build it from a '
                          'recording with GPS, or set geopose to false')
    return origin


def make_geopose(publisher: LifecyclePublisher, origin: GeodeticOrigin) -> SendGeoPose:
    """A function that publishes WGS84 and the orientation in east, north and up of the origin."""
    def send(stamp: Time, frame_id: str, T_map_base: Tensor) -> None:
        message = publisher.msg_type()
        message.header = Header(stamp=stamp, frame_id=frame_id)
        position = message.pose.position
        position.latitude, position.longitude, position.altitude = from_enu(origin, T_map_base[:3, 3]).tolist()
        message.pose.orientation = pose_to_message(T_map_base).orientation
        publisher.publish(message)

    return send
