"""The process around the node: its signals, its executor, and its end."""

import signal
import sys

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from aprloc_ros.errors import AprlocError
from aprloc_ros.ros.node import RelocalizeNode
from aprloc_ros.starter import starter_lives

_SPIN_S = 0.1


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT, SIGTERM or the end of a launch that started it -> exit code: 1 where it could not work."""
    # A list, not an Event: its lock would be taken twice where a second signal interrupts the first one's handler.
    interrupts = []
    for interrupt in (signal.SIGINT, signal.SIGTERM):  # ours, not rclpy's: the worker still needs the context
        signal.signal(interrupt, lambda number, _frame: interrupts.append(number))
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = RelocalizeNode()
    except (AprlocError, RuntimeError) as error:  # RuntimeError: rcl on malformed --ros-args
        print(f'aprloc: error: {str(error).splitlines()[0]}', file=sys.stderr)
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if node.get_parameter('autostart').value and node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
        node.trigger_activate()
    while not interrupts and starter_lives():
        executor.spin_once(timeout_sec=_SPIN_S)
    node.close()
    node.destroy_node()
    rclpy.shutdown()
    for interrupt in (signal.SIGINT, signal.SIGTERM):  # the interpreter restores any other handler before it ends
        signal.signal(interrupt, signal.SIG_IGN)
    return 1 if node.problem else 0


if __name__ == '__main__':
    sys.exit(main())
