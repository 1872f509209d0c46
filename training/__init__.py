"""Builds a map from posed images. Imports aprloc_ros; the runtime never imports this (`aprloc build` loads it lazily)."""
