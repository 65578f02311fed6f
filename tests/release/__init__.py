"""Tests of what a release consists of: first of its parts, then of the image, built as `make image` builds it."""
