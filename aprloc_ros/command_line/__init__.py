"""What `aprloc` takes and does; above everything else, so it may import anything."""
