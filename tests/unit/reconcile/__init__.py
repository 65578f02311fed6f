"""Tests of `saffire/reconcile/`."""
