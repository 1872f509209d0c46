"""For the eyes: overlay, path, and once the map's cloud and cameras. Nothing here delays an answer."""

import array
import threading
from collections.abc import Callable

import numpy as np
import torch
from geometry_msgs.msg import Point, PoseStamped
from nav_msgs.msg import Path
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from torch import Tensor
from visualization_msgs.msg import Marker, MarkerArray

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.fields.views import render_view
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.ros.clocks import THROTTLED
from aprloc_ros.ros.messages import pose_stamped
from aprloc_ros.ros.worker import NewestFrameWorker
from aprloc_ros.tracking.answer import Answer
from aprloc_ros.viewing.cloud import VIEWS, Cloud, cloud_parts, evenly, frustum_lines, join
from aprloc_ros.viewing.overlay import overlay_image

PATH_POSES = 2000            # a longer path keeps every second pose
_OVERLAY_PIXELS = 120        # shorter side of the rendering
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_CAMERA_SIZE = 0.03          # of the unit of the map's positions


class Display:
    """Publishers of an active node. Pictures are made on threads of their own, and only while somebody looks."""

    def __init__(self, node: Node, bundle: MapBundle, frame_id: str):
        """frame_id: of the map, as in the poses."""
        self._node, self._bundle, self._frame_id = node, bundle, frame_id
        self._overlay = node.create_publisher(Image, '~/overlay', 1)
        self._path = node.create_publisher(Path, '~/path', 1)
        self._map_cloud = node.create_publisher(PointCloud2, '~/map_cloud', _LATCHED)
        self._map_cameras = node.create_publisher(MarkerArray, '~/map_cameras', _LATCHED)
        self._poses: list[PoseStamped] = []
        self._stopping = threading.Event()
        self._mapper: threading.Thread | None = None
        self._painter = NewestFrameWorker(lambda paint: self._guarded('picture', paint), lambda: None)

    def show(self, pixels: np.ndarray, answer: Answer, header: Header, camera: Camera | None) -> None:
        """Take an answered image [H, W, 3] uint8 RGB and return at once.

        camera: what took it; None: the map's own, scaled to the image. A picture that is not done when the next
        answer comes is not repeated: only the newest waits.
        """
        if self._poses and stamp_ns(header.stamp) < stamp_ns(self._poses[-1].header.stamp):
            self._poses.clear()   # time was set back: another way
        self._poses.append(pose_stamped(header.stamp, self._frame_id, answer.T_map_base))
        if len(self._poses) > PATH_POSES:
            self._poses = self._poses[::2]
        if self._overlay.get_subscription_count() or self._path.get_subscription_count():
            poses = list(self._poses)
            self._painter.submit(lambda: self._paint(pixels, answer, header, camera, poses))

    def publish_map(self, T_map_cam: Tensor) -> None:
        """Publish, once and latched, the cloud that the views [V, 4, 4] see, and the views. Returns at once."""
        self._mapper = threading.Thread(target=self._guarded, args=('map cloud', lambda: self._draw_map(T_map_cam)),
                                        name='map cloud', daemon=True)
        self._mapper.start()

    def close(self) -> None:
        """Finish the picture in hand and take the topics away."""
        self._stopping.set()
        self._painter.stop()
        if self._mapper is not None:
            self._mapper.join()
        for publisher in (self._overlay, self._path, self._map_cloud, self._map_cameras):
            self._node.destroy_publisher(publisher)

    # On the threads of the painter and of the mapper.

    def _guarded(self, what: str, draw: Callable[[], None]) -> None:
        try:
            draw()
        except Exception as error:  # noqa: BLE001  what is only to look at never stops the node
            text = (str(error).splitlines() or [''])[0]
            self._node.get_logger().warning(f'no {what}: {type(error).__name__}: {text}', **THROTTLED)

    def _paint(self, pixels: np.ndarray, answer: Answer, header: Header, camera: Camera | None,
               poses: list[PoseStamped]) -> None:
        if self._path.get_subscription_count():
            self._path.publish(Path(header=Header(stamp=header.stamp, frame_id=self._frame_id), poses=poses))
        if self._overlay.get_subscription_count():
            self._overlay.publish(image_message(self._picture(pixels, answer, camera), header))

    def _picture(self, pixels: np.ndarray, answer: Answer, camera: Camera | None) -> np.ndarray:
        own, estimate = self._bundle.manifest.camera, answer.estimate
        source = self._bundle.manifest.source(camera, pixels.shape[1], pixels.shape[0])
        target = own.with_short_side(min(_OVERLAY_PIXELS, own.width, own.height))
        rgb, _ = render_view(self._bundle.field, self._bundle.manifest.scene, target, estimate.T_map_cam,
                             estimate.histogram)
        rendering = (rgb * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return overlay_image(warp_image(np.ascontiguousarray(pixels), source, target), rendering)

    def _draw_map(self, T_map_cam: Tensor) -> None:
        manifest = self._bundle.manifest
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._frame_id)
        size_m = _CAMERA_SIZE * manifest.scene.pose_unit_m
        views = evenly(T_map_cam, VIEWS)
        self._map_cameras.publish(cameras_message(frustum_lines(manifest.camera, views, size_m), size_m / 20, header))
        parts = []
        for part in cloud_parts(self._bundle.field, manifest.scene, manifest.camera, views):
            if self._stopping.is_set():
                return
            parts.append(part)
        self._map_cloud.publish(cloud_message(join(parts), header))


def image_message(pixels: np.ndarray, header: Header) -> Image:
    """[H, W, 3] uint8 RGB -> sensor_msgs/Image of encoding rgb8."""
    height, width = pixels.shape[:2]
    return Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width,
                 data=_bytes(np.ascontiguousarray(pixels).tobytes()))


def cloud_message(cloud: Cloud, header: Header) -> PointCloud2:
    """Points with x, y, z and the colour that RViz knows as RGB8: 0x00RRGGBB in the bits of a float32."""
    points = np.zeros(len(cloud.xyz), [('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<u4')])
    for axis, name in enumerate('xyz'):
        points[name] = cloud.xyz[:, axis].numpy()
    red, green, blue = cloud.rgb.to(torch.int64).numpy().T
    points['rgb'] = red << 16 | green << 8 | blue
    fields = [PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
              for index, name in enumerate(('x', 'y', 'z', 'rgb'))]
    return PointCloud2(header=header, height=1, width=len(points), fields=fields, is_bigendian=False,
                       point_step=points.itemsize, row_step=points.nbytes, data=_bytes(points.tobytes()), is_dense=True)


def cameras_message(lines: Tensor, width_m: float, header: Header) -> MarkerArray:
    """Ends of lines [V, 16, 3] -> one marker of all of them."""
    marker = Marker(header=header, ns='map_cameras', type=Marker.LINE_LIST, action=Marker.ADD,
                    color=ColorRGBA(r=0.39, g=0.71, b=0.96, a=1.0))
    marker.pose.orientation.w, marker.scale.x = 1.0, width_m
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in lines.reshape(-1, 3).tolist()]
    return MarkerArray(markers=[marker])


def _bytes(content: bytes) -> array.array:
    """What rclpy takes without looking at every byte."""
    return array.array('B', content)
