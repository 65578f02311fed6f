"""
The errors that Saffire raises, and the HTTP status with which Saffire answers a request after each error.

An ApiServerSource delivers an event again after no response, 404, 413, 425, 429, 502, 503 and 504, and drops the event
after 500. A Broker delivers an event again after no response, 404, 408, 409, 429 and 5xx. So Saffire chooses the status
by whether another delivery can help::

    SaffireError
    ├── RejectedEvent      400   the request is no CloudEvent, or has an unknown shape: do not deliver again
    ├── RefusedError       403   the API server refuses the request: do not deliver again
    │   └── DeniedError    403   RBAC or admission forbids the request, and will forbid it again
    ├── TransientError     503   the API server is unreachable, slow or throttles Saffire: deliver again
    │   ├── ConflictError  503   the object changed twice before Saffire could patch it: deliver again
    │   ├── ExpiredError   503   the API server has dropped the requested version: deliver again
    │   └── WebhookError   503   the API server cannot call an admission webhook: deliver again
    └── SettingsError            an environment variable is wrong: the process does not start
"""

INTERNAL_ERROR = "a fault of Saffire's own; its log has the trace"
"""The text that Saffire answers and records after an exception that no code expects."""


class SaffireError(Exception):
    """The base of every error that Saffire raises on purpose; `http_status` is the status of the HTTP response."""

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
    The API server cannot carry out the request now. If the event is delivered again, the request may succeed.

    `retry_after` is the number of seconds after which the API server asks Saffire to try again; 0 if the API server
    names none.
    """

    http_status = 503

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(TransientError):
    """
    The API server refuses a write because of the object's present state.

    For a patch, the object has changed since Saffire read it, so a `test` of the JSON Patch failed, or the object is
    gone. For a new object, one of that name exists.
    """


class ExpiredError(TransientError):
    """The API server no longer has the requested `resourceVersion` of the objects."""


class WebhookError(TransientError):
    """The API server cannot call an admission webhook that has to admit the request; the webhook's pod may be stuck."""


class SettingsError(SaffireError):
    """Some environment variables have values that Saffire cannot use; the message names all of them."""
