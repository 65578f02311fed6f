"""The Kubernetes API: one client, the resources that are read and patched, and what their manifests say."""
