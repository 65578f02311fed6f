"""Tests of the kubectl plugin: what it shows, by the function's own plan."""
