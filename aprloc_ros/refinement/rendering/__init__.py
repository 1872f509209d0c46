"""Refinement by what the field renders: the papers' descents, and `align`."""
