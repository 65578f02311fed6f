"""Tests of `saffire/record/`."""
