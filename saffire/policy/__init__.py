"""Decisions: pure functions of what Saffire read about a pod or a workload, the settings and the time."""
