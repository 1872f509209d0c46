"""Images without poses, wherever they come from, and which of them to take."""
