"""
The errors that Saffire raises, and the HTTP status that answers each.

An ApiServerSource delivers an event again after no answer, 404, 413, 425, 429, 502, 503 and 504, and drops it after
500. A Broker delivers it again after no answer, 404, 408, 409, 429 and 5xx. So the status says whether another delivery
can help::

    SaffireError
    ├── RejectedEvent      400   the request is no CloudEvent, or has an unknown shape: do not deliver again
    ├── RefusedError       403   the API server refuses the request: do not deliver again
    │   └── DeniedError    403   RBAC or admission forbids the request, and will forbid it again
    ├── TransientError     503   the API server is unreachable, slow or throttles Saffire: deliver again
    │   ├── ConflictError  503   the object changed before it could be patched: deliver again
    │   └── ExpiredError   503   the API server has dropped the requested version: deliver again
    └── SettingsError            the process does not start
"""

INTERNAL_ERROR = "a fault of Saffire's own; its log has the trace"
"""The text that is answered and recorded after an exception that no code expects."""


class SaffireError(Exception):
    """The base of every error that Saffire raises on purpose; `http_status` answers the request."""

    http_status = 503


class RejectedEvent(SaffireError):
    """The request is not a CloudEvent, or has a shape that Saffire does not know."""

    http_status = 400


class RefusedError(SaffireError):
    """The API server refuses the request, and would refuse it again after another delivery."""

    http_status = 403


class DeniedError(RefusedError):
    """RBAC or admission forbids the request, so trying again soon does not help."""


class TransientError(SaffireError):
    """
    The API server cannot answer now; another delivery may succeed.

    `retry_after` has the seconds after which the API server asks to try again; 0 if it names none.
    """

    http_status = 503

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(TransientError):
    """A `test` of a patch failed: the object has changed since it was read."""


class ExpiredError(TransientError):
    """The API server no longer has the requested version of the objects."""


class SettingsError(SaffireError):
    """The environment has settings that cannot be used; the message names all of them."""
