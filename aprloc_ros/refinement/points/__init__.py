"""Refinement by the map's points: the neural reprojection error, from no pose at all, and what it is compared with."""
