"""Bags and trajectories, read and written without ROS."""
