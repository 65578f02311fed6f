"""
Tests on a real node, with registries that really die: for root, on Linux.

On Debian and its like, `python -m playground.node.packages` installs what they need; under `CI=true`, the tests do so.
"""
