"""
The log: each log record is one JSON line on stdout, where log agents read it.

The message of a line is constant, and everything that varies is in other fields. Modules without I/O never log.

Each line has a field `time`, in UTC and in the format of RFC 3339. Google Cloud's log agents take this field for the
time of the log entry (https://cloud.google.com/logging/docs/structured-logging). A reader of `kubectl logs` sees the
time without options.

On Google Cloud, the `google-cloud-logging` package formats the lines. It adds fields that only Google's log agents
read. Its import takes 0.2 s and 18 MiB, so elsewhere Saffire formats the lines itself.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_LOGGER = logging.getLogger("saffire")
# What the firmware says of a machine. The `google-auth` package, too, knows Google's machines by this file.
_PRODUCT_NAME = Path("/sys/class/dmi/id/product_name")


# The format


class _JsonFormatter(logging.Formatter):
    """Formats a log record as a JSON object: time, severity, message, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """
        Return the line of a log record.

        The line is ASCII, so that it can be written in every encoding, and no character ends it.
        """
        always = {"time": _time(record), "severity": record.levelname, "message": super().format(record)}
        return json.dumps(always | getattr(record, "json_fields", {}) | always)


def _plain_handler() -> logging.Handler:
    """Return a handler that writes log records as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter())
    return handler


def _google_handler() -> logging.Handler:
    """Return a handler that writes log records as JSON lines, with what Google's log agents read."""
    import google.cloud.logging_v2  # noqa: PLC0415 - see above
    from google.cloud.logging_v2.handlers import StructuredLogHandler  # noqa: PLC0415

    class WithTime(StructuredLogHandler):  # type: ignore[misc]  # the library ships no types
        """
        Adds the time to each line.

        The library leaves the time to the log agent, and removes a field `time` that a caller adds.
        """

        def format(self, record: logging.LogRecord) -> str:
            """Return the line of a log record: a JSON object whose first field is the time."""
            # The library escapes no lone surrogate, which cannot be written.
            line = super().format(record).encode(errors="backslashreplace").decode()
            return f'{{"time": "{_time(record)}", {line.removeprefix("{")}'

    # Otherwise the handler writes a first line about itself.
    google.cloud.logging_v2._instrumentation_emitted = True  # noqa: SLF001 - there is no public attribute
    return WithTime(stream=sys.stdout)


def _time(record: logging.LogRecord) -> str:
    """Return the time of a log record, in UTC and in the format of RFC 3339."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    return f"{time.removesuffix('+00:00')}Z"


def _is_google_machine(product_name: Path) -> bool:
    """Tell whether this is a machine of Google Compute Engine, as the nodes of its Kubernetes are."""
    try:
        return product_name.read_text(errors="replace").startswith("Google")
    except OSError:  # no file, as in many virtual machines and sandboxes
        return False


def configure(level: str, log_format: str = "json", *, product_name: Path = _PRODUCT_NAME) -> None:
    """
    Send the log to stdout.

    Args:
        level: the name of a level of the `logging` module, such as `INFO`.
        log_format: `json`, `google`, or `auto`, which is `google` on a machine of Google.
        product_name: the file with the product name of this machine.

    """
    is_google = log_format == "google" or (log_format == "auto" and _is_google_machine(product_name))
    _LOGGER.handlers = [_google_handler() if is_google else _plain_handler()]
    _LOGGER.setLevel(level)
    _LOGGER.propagate = False


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
