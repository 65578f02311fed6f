"""Pull failures: which containers wait for an image, and why, by the pod's status and the runtime's error text."""
