"""Pull failures: which containers wait for an image, and why, by a pod's status and a runtime's words."""
