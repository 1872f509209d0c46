"""Where a map lies: its unit, its axes, its frame on the robot and on Earth."""
