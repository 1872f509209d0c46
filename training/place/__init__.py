"""The synthetic demo place: a college court, its renderer, and drives through it."""

from aprloc_ros.training.place.capture import write_capture

__all__ = ['write_capture']
