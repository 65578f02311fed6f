"""The error that the plugin itself raises."""

from saffire.errors import SaffireError


class UsageError(SaffireError):
    """The command cannot run as it was typed; the message says what to type instead."""
