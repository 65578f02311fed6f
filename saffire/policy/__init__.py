"""Decisions: pure functions of what was gathered, the settings and the time."""
