"""The node, and everything else that speaks ROS."""
