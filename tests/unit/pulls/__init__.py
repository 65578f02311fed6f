"""Tests of `saffire/pulls/`."""
