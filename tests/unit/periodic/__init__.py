"""Tests of `saffire/periodic/`."""
