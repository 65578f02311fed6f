"""
What can go wrong, and the HTTP answer that each fault deserves.

ApiServerSource delivers again on no answer, 404, 413, 425, 429, 502, 503 and 504, and drops what is answered 500; a
Broker delivers again on no answer, 404, 408, 409, 429 and 5xx. So the status says whether trying again can help::

    SaffireError
    ├── RejectedEvent      400   not a CloudEvent, or not the shape of one we know: never delivered again
    ├── RefusedError       403   the API forbids what was decided: never delivered again
    │   └── DeniedError    403   RBAC or admission forbids it, and will do so again
    ├── TransientError     503   the API server is unreachable, slow or throttles us: deliver again
    │   ├── ConflictError  503   the object moved under us twice: deliver again
    │   └── ExpiredError   503   what was asked for is of the past by now: deliver again
    └── SettingsError            the process does not start
"""

INTERNAL_ERROR = "a fault of Saffire's own; its log has the trace"
"""What is answered, and recorded, where something trips that should not."""


class SaffireError(Exception):
    """The root of every error that Saffire raises on purpose; `http_status` is its answer."""

    http_status = 503


class RejectedEvent(SaffireError):
    """The request is not a CloudEvent, or not the shape of one we know."""

    http_status = 400


class RefusedError(SaffireError):
    """The API server understood the request and refuses it; another delivery would be refused too."""

    http_status = 403


class DeniedError(RefusedError):
    """RBAC or admission forbids the request, so that trying again soon is in vain."""


class TransientError(SaffireError):
    """The API server could not answer now; another delivery may succeed, after `retry_after` seconds if it said so."""

    http_status = 503

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(TransientError):
    """A guard of a patch failed: the object is no longer what was read."""


class ExpiredError(TransientError):
    """The API server does not know any more how things were at that time."""


class SettingsError(SaffireError):
    """The environment holds a setting that cannot be used; the message names every one."""
