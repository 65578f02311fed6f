"""Simulated nodes: they need no root, and write what a kubelet writes."""
