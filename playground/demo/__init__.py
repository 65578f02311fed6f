"""The demo: a registry goes down, and Saffire moves the workloads."""
