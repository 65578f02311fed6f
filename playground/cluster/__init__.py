"""A real Kubernetes control plane in plain processes, and what they need."""
