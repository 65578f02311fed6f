"""Simulated nodes: without root, they write to the API server what kubelets would write."""
