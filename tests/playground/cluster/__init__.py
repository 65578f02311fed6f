"""Tests of `playground/cluster`."""
