"""From images without poses to a capture with them: choice of frames, structure from motion, a report."""
