"""What tests and benchmarks of the function on a real control plane share."""
