"""Metres, up and north: what a source says of the frame that structure from motion leaves open."""
