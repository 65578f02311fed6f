"""The demo: a registry dies, and Saffire moves the workloads that need it to another registry."""
