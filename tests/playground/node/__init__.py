"""Tests of `playground/node`."""
