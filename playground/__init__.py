"""A real Kubernetes control plane in plain processes, and a stand-in for what a machine without root lacks."""
