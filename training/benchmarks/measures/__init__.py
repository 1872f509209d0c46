"""What several benchmarks measure with, or draw."""
