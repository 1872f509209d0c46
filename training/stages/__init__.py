"""What is trained, a file each, in one loop."""
