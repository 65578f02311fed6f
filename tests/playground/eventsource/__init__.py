"""Tests of `playground/eventsource`."""
