"""Refinement by the map's patches of luminance, as sharp as the camera."""
