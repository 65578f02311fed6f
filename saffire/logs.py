"""
The log: each log record is one JSON line on stdout, where log agents read it.

The message of a line is constant, and everything that varies is in other fields. Modules without I/O never log.

Each line has a field `time`, in UTC and in the format of RFC 3339. Google Cloud's log agents take this field for the
time of the log entry (https://cloud.google.com/logging/docs/structured-logging). A reader of `kubectl logs` sees the
time without options.

The library that formats the lines takes 0.2 s to import, a third of the time until Saffire's first answer. To keep the
first line from waiting for the import, call `load_formatter` before, when there is time.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

_LOGGER = logging.getLogger("saffire")


# The format


class _Structured(logging.Handler):
    """Writes log records as JSON lines. The library that formats the lines is imported at the first record."""

    _handler: logging.Handler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one log record as one line."""
        self._handler = self._handler or _structured()
        self._handler.handle(record)


def _structured() -> logging.Handler:
    import google.cloud.logging_v2  # noqa: PLC0415 - see above
    from google.cloud.logging_v2.handlers import StructuredLogHandler  # noqa: PLC0415

    class WithTime(StructuredLogHandler):  # type: ignore[misc]  # the library ships no types
        """
        Adds the time to each line.

        The library leaves the time to the log agent, and removes a field `time` that a caller adds.
        """

        def format(self, record: logging.LogRecord) -> str:
            """Return the line of a log record: a JSON object whose first field is the time."""
            time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
            return f'{{"time": "{time.removesuffix("+00:00")}Z", {super().format(record).removeprefix("{")}'

    # Otherwise the handler writes a first line about itself.
    google.cloud.logging_v2._instrumentation_emitted = True  # noqa: SLF001 - there is no public attribute
    return WithTime(stream=sys.stdout)


def configure(level: str) -> None:
    """Send the log to stdout; `level` is the name of a level of the `logging` module, such as `INFO`."""
    _LOGGER.handlers = [_Structured()]
    _LOGGER.setLevel(level)
    _LOGGER.propagate = False


def load_formatter() -> None:
    """Import the library that formats the lines."""
    _structured()


# The messages


def ignored(reason: str) -> None:
    """Log, at DEBUG, why Saffire ignores a CloudEvent. The level is low since Saffire ignores most CloudEvents."""
    _LOGGER.debug("Ignored an event", extra={"json_fields": {"reason": reason}})


def answered(status: int, outcome: str, fields: dict[str, Any]) -> None:
    """
    Log Saffire's answer to one request: the HTTP status, and the outcome in one line.

    `fields` name the object that the request was about. The level is WARNING from status 500, else INFO.
    """
    level = logging.INFO if status < 500 else logging.WARNING  # noqa: PLR2004 - HTTP's server errors
    _LOGGER.log(level, "Answered an event", extra={"json_fields": {"status": status, "outcome": outcome, **fields}})


def repaired(namespace: str, plans: tuple[dict[str, str], ...], fault: str) -> None:
    """Log the plans for a workload that no Event named, and the fault; `fault` is `""` if there was none."""
    fields = {"namespace": namespace, "plans": plans, **({"fault": fault} if fault else {})}
    _LOGGER.info("Repaired a workload", extra={"json_fields": fields})


def asked(namespace: str, image: str, equivalent: str, state: str) -> None:
    """Log the result of a readiness probe, at DEBUG, since the status of the source has the result too."""
    fields = {"namespace": namespace, "image": image, "equivalent": equivalent, "state": state}
    _LOGGER.debug("Asked a registry", extra={"json_fields": fields})


def failed(message: str, fields: dict[str, Any]) -> None:
    """Log a fault that does not change Saffire's answer to a request, such as a status that could not be written."""
    _LOGGER.warning(message, extra={"json_fields": fields})


def crashed(fault: BaseException, fields: dict[str, Any]) -> None:
    """Log an exception that no code expects, with its stack trace."""
    _LOGGER.error("Crashed on an event", exc_info=fault, extra={"json_fields": fields})
