"""Where is the camera? One image, one map, one pose with a covariance."""

__version__ = '0.1.0'
