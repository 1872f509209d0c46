"""Clocks that nobody sets: for what must go on while a simulation's time stands still or a machine's is set back."""

from rclpy.clock import Clock
from rclpy.clock_type import ClockType

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
# Of a logger's call that may come with every frame.
THROTTLED = {'throttle_duration_sec': 5.0, 'throttle_time_source_type': STEADY}
