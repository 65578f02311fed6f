"""Moves Kubernetes workloads to an equivalent repository when a container registry dies."""
