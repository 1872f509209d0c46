"""Images in the order of their stamps, and what to do when time was set back, as by a bag that begins again."""

from collections.abc import Callable

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from aprloc_ros.recordings.stamp_order import StampOrder

_SET_BACK = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True)


class FrameOrder:
    """Notices that time was set back by the node's clock, where that follows /clock, and by the stamps themselves."""

    def __init__(self, node: Node, on_set_back: Callable[[], None]):
        """on_set_back: nothing from before may be compared with what comes now."""
        self._on_set_back = on_set_back
        self._order, self._newest_ns = StampOrder(), 0
        self._jumps = node.get_clock().create_jump_callback(_SET_BACK, post_callback=self._on_jump)

    def close(self) -> None:
        """Watch the clock no more."""
        self._jumps.unregister()

    def refusal(self, stamp_ns: int) -> str | None:
        """None when the frame may be used, otherwise why not."""
        refusal = self._order.refusal(stamp_ns)
        if refusal is None:
            before_ns, self._newest_ns = self._newest_ns, stamp_ns
            if stamp_ns < before_ns:
                self._on_set_back()
        return refusal

    def _on_jump(self, jump: TimeJump) -> None:
        self._order = StampOrder()
        self._on_set_back()
