"""The OCI distribution API: whether an image is there, for these platforms, whole, and with which credentials."""
