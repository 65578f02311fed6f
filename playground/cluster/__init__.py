"""A real Kubernetes control plane as plain processes: its programs, their start, and a client of its API server."""
