"""ROS messages as rosbags writes them, without ROS."""

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import rotation_to_quaternion

IMAGE, CAMERA_INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
POSE, ODOMETRY = 'geometry_msgs/msg/PoseStamped', 'nav_msgs/msg/Odometry'
POSE_WITH_COVARIANCE = 'geometry_msgs/msg/PoseWithCovarianceStamped'
TF, DIAGNOSTICS = 'tf2_msgs/msg/TFMessage', 'diagnostic_msgs/msg/DiagnosticArray'
OK, WARN = 0, 1   # levels of diagnostic_msgs/DiagnosticStatus
_STORE = get_typestore(Stores.ROS2_KILTED)
_FOREVER = QosTime(2147483647, 4294967295)
_RELIABLE = Qos(QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, _FOREVER, _FOREVER,
                QosLiveliness.AUTOMATIC, _FOREVER, False)


class BagWriter(Writer):
    """A rosbag2 (mcap) that learns its topics from what is written."""

    def __init__(self, path):
        super().__init__(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._known = {}

    def put(self, topic: str, time_ns: int, message) -> None:
        kind = message.__msgtype__
        if topic not in self._known:
            self._known[topic] = self.add_connection(topic, kind, typestore=_STORE, offered_qos_profiles=[_RELIABLE])
        self.write(self._known[topic], time_ns, _STORE.serialize_cdr(message, kind))


def header(stamp_ns: int, frame_id: str):
    """std_msgs/Header."""
    time = _STORE.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10 ** 9))
    return _STORE.types['std_msgs/msg/Header'](time, frame_id)


def image_message(image: np.ndarray, head):
    """[H, W, 3] uint8 RGB -> sensor_msgs/Image of encoding rgb8."""
    height, width = image.shape[:2]
    return _STORE.types[IMAGE](head, height, width, 'rgb8', 0, 3 * width, np.ascontiguousarray(image).reshape(-1))


def camera_info_message(camera: Camera, head):
    """A camera as sensor_msgs/CameraInfo, its rectified projection equal to its intrinsic matrix."""
    distortion = np.zeros(5)
    if camera.distortion:
        distortion = np.array(camera.distortion if len(camera.distortion) != 4 or camera.model == 'fisheye'
                              else (*camera.distortion, 0.0))
    names = {'fisheye': 'equidistant'}
    name = names.get(camera.model, 'rational_polynomial' if len(distortion) == 8 else 'plumb_bob')
    projection = np.hstack([camera.matrix, np.zeros((3, 1))])
    region = _STORE.types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    return _STORE.types[CAMERA_INFO](head, camera.height, camera.width, name, distortion, camera.matrix.reshape(-1),
                                     np.eye(3).reshape(-1), projection.reshape(-1), 0, 0, region)


def pose_message(T_a_b: Tensor, head):
    """[4, 4] -> geometry_msgs/PoseStamped."""
    return _STORE.types[POSE](head, _STORE.types['geometry_msgs/msg/Pose'](*_parts(T_a_b, 'Point')))


def pose_with_covariance_message(T_a_b: Tensor, covariance: Tensor, head):
    """[4, 4] and [6, 6], about the axes of a -> geometry_msgs/PoseWithCovarianceStamped."""
    pose = _STORE.types['geometry_msgs/msg/Pose'](*_parts(T_a_b, 'Point'))
    full = _STORE.types['geometry_msgs/msg/PoseWithCovariance'](pose, covariance.flatten().numpy())
    return _STORE.types[POSE_WITH_COVARIANCE](head, full)


def tf_message(T_a_b: Tensor, child_frame_id: str, head):
    """[4, 4] -> tf2_msgs/TFMessage of one transform, head.frame_id from child_frame_id."""
    transform = _STORE.types['geometry_msgs/msg/Transform'](*_parts(T_a_b, 'Vector3'))
    return _STORE.types[TF]([_STORE.types['geometry_msgs/msg/TransformStamped'](head, child_frame_id, transform)])


def diagnostics_message(level: int, name: str, text: str, values: dict[str, str], head):
    """One status as diagnostic_msgs/DiagnosticArray; level: OK or WARN."""
    pairs = [_STORE.types['diagnostic_msgs/msg/KeyValue'](key, value) for key, value in values.items()]
    status = _STORE.types['diagnostic_msgs/msg/DiagnosticStatus'](level, name, text, '', pairs)
    return _STORE.types[DIAGNOSTICS](head, [status])


def _parts(T: Tensor, position: str):
    """Position and orientation of [4, 4] as messages."""
    w, x, y, z = rotation_to_quaternion(T[:3, :3]).tolist()
    return (_STORE.types[f'geometry_msgs/msg/{position}'](*T[:3, 3].tolist()),
            _STORE.types['geometry_msgs/msg/Quaternion'](x, y, z, w))
