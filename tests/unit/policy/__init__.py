"""Tests of `saffire/policy/`."""
