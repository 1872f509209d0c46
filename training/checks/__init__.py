"""What of a capture contradicts itself: poses, extrinsics, units."""
