"""Tests of deploy/monitoring/: its rules, its dashboard, and what both take of Prometheus."""
