"""Tests of `saffire/registry/`."""
