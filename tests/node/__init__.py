"""
Tests on a real node, with registries that really die: `sudo SAFFIRE_NODE_TESTS=1 make test`, on Linux.

On Debian and its like, `python -m playground.packages` installs what they need; under `CI=true` they do so themselves.
"""
