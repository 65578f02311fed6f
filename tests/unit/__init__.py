"""Tests of modules, each where its module lies."""
