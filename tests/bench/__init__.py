"""What the benchmarks make of their numbers."""
