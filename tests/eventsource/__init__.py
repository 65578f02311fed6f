"""Tests of `eventsource/`; what needs an API server is tested in `tests/api/test_eventsource.py`."""
