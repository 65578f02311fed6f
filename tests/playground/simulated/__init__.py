"""Tests of `playground/simulated`."""
