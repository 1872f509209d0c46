"""Refiners: from a first pose, or none, to a better one. One file for each, one result for all."""
