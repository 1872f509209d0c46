"""Refinement by the map's points: the neural reprojection error, from no pose at all."""
