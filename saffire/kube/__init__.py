"""The Kubernetes API: one client, the resources that Saffire reads and patches, and how to read their manifests."""
