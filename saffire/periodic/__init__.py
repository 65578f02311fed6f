"""What a timer starts: the sweep, the fail back, the readiness probes."""
