"""What the images and their poses show of the place: points, depths, the lens."""
