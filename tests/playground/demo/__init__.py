"""Tests of `playground/demo`."""
