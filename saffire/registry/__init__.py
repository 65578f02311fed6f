"""The OCI distribution API: whether a registry has an image, whole and for a node's platform, and how to log in."""
