"""A drive without poses teaches a map: its images, what the map answers to them, and whether the taught map is better."""
