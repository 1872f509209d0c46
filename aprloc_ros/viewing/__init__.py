"""For the eyes: pictures of answers, the place as points, the page for a browser."""
