"""How far a map's answers are to be trusted: gates and covariances from held-out frames."""
