"""Tests of `saffire/sources/`."""
