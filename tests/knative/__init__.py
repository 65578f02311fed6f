"""The manifests, held against Knative's own types and against a real API server."""
