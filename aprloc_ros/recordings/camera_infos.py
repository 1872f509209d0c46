"""Which camera_info belongs to an image: drivers give both one stamp, and publish either of them first."""

from aprloc_ros.recordings.message_fields import stamp_ns

_KEPT = 100   # images wait no longer for their answer


class CameraInfos:
    """The latest messages of a topic. One thread may add while another asks."""

    def __init__(self):
        self._by_stamp: dict[int, object] = {}

    def add(self, info) -> None:
        """A sensor_msgs/CameraInfo."""
        self._by_stamp[stamp_ns(info.header.stamp)] = info
        if len(self._by_stamp) > _KEPT:
            del self._by_stamp[next(iter(self._by_stamp))]

    def of(self, image_ns: int, otherwise):
        """That of the image's stamp; `otherwise` where there is none, as where one is sent for all."""
        return self._by_stamp.get(image_ns, otherwise)
