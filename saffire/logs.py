"""
The log: one JSON line per event on stdout, where log agents read it.

The message is constant; everything that varies is in fields. Modules without I/O never log.

Each line has its `time` in UTC, as RFC 3339 writes it. Google Cloud's log agents take it for the time of the entry
(https://cloud.google.com/logging/docs/structured-logging), and a reader of `kubectl logs` sees it without options.

The library that formats the lines takes 0.2 s to import, a third of the time until the first answer. To keep the first
line from waiting for it, call `load_formatter` when there is time.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

_LOGGER = logging.getLogger("saffire")
# Characters of a text that `printable` keeps.
_MAX_TEXT = 1024


# The format


class _Structured(logging.Handler):
    """Writes log records as JSON lines; imports the library that formats them at the first record."""

    _handler: logging.Handler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self._handler = self._handler or _structured()
        self._handler.handle(record)


def _structured() -> logging.Handler:
    import google.cloud.logging_v2  # noqa: PLC0415 - see above
    from google.cloud.logging_v2.handlers import StructuredLogHandler  # noqa: PLC0415

    class WithTime(StructuredLogHandler):  # type: ignore[misc]  # the library ships no types
        """Adds the time, which the library leaves to the log agent and removes from a line's own fields."""

        def format(self, record: logging.LogRecord) -> str:
            """Return the line, which is a JSON object, with its time as the first field."""
            time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
            return f'{{"time": "{time.removesuffix("+00:00")}Z", {super().format(record).removeprefix("{")}'

    # Otherwise the handler writes a first line about itself.
    google.cloud.logging_v2._instrumentation_emitted = True  # noqa: SLF001 - there is no public attribute
    return WithTime(stream=sys.stdout)


def configure(level: str) -> None:
    """Send the log to stdout; `level` is a name of the `logging` module."""
    _LOGGER.handlers = [_Structured()]
    _LOGGER.setLevel(level)
    _LOGGER.propagate = False


def load_formatter() -> None:
    """Import the library that formats the lines."""
    _structured()


# The messages


def ignored(reason: str) -> None:
    """Log an event that Saffire ignores, at DEBUG, since it ignores most of them."""
    _LOGGER.debug("Ignored an event", extra={"json_fields": {"reason": reason}})


def answered(status: int, outcome: str, fields: dict[str, Any]) -> None:
    """Log the answer to one event: the HTTP status, the outcome in one line, and fields that say what it was about."""
    level = logging.INFO if status < 500 else logging.WARNING  # noqa: PLR2004 - HTTP's server errors
    _LOGGER.log(level, "Answered an event", extra={"json_fields": {"status": status, "outcome": outcome, **fields}})


def repaired(namespace: str, plans: tuple[dict[str, str], ...], fault: str) -> None:
    """Log the plans for a workload that no event named, and the fault if there was one."""
    fields = {"namespace": namespace, "plans": plans, **({"fault": fault} if fault else {})}
    _LOGGER.info("Repaired a workload", extra={"json_fields": fields})


def asked(namespace: str, image: str, equivalent: str, state: str) -> None:
    """Log the result of a readiness probe, at DEBUG, since the status of the source has it too."""
    fields = {"namespace": namespace, "image": image, "equivalent": equivalent, "state": state}
    _LOGGER.debug("Asked a registry", extra={"json_fields": fields})


def failed(message: str, fields: dict[str, Any]) -> None:
    """Log a fault that does not change the answer, such as a record that could not be written."""
    _LOGGER.warning(message, extra={"json_fields": fields})


def crashed(fault: BaseException, fields: dict[str, Any]) -> None:
    """Log an exception that no code expects, with its trace."""
    _LOGGER.error("Crashed on an event", exc_info=fault, extra={"json_fields": fields})


def printable(text: str) -> str:
    """
    Return the first 1024 characters of a text, with escapes for all but printable ASCII.

    The text may quote users of the cluster.
    """
    if text.isascii() and text.isprintable():
        return text[:_MAX_TEXT]
    characters = (
        character if character.isprintable() and character.isascii() else ascii(character)[1:-1]
        for character in text[:_MAX_TEXT]
    )
    return "".join(characters)[:_MAX_TEXT]
