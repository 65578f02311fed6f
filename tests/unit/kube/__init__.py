"""Tests of `saffire/kube/`."""
