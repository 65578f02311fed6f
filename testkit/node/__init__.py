"""What tests and benchmarks on a real node share."""
