"""
The log: one JSON line per event on stdout, which is what log agents read.

The message is a constant; everything that varies is a field. Pure code never logs.

The library that formats the lines takes 0.2 s to import, a third of the time until the first answer. A caller that can
afford it calls `load_formatter` early; else the first line waits for it.
"""

import logging
import sys
from typing import Any

_LOGGER = logging.getLogger("saffire")


class _Structured(logging.Handler):
    """Writes the lines."""

    _handler: logging.Handler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        self._handler = self._handler or _structured()
        self._handler.handle(record)


def _structured() -> logging.Handler:
    import google.cloud.logging_v2  # noqa: PLC0415 - see above
    from google.cloud.logging_v2.handlers import StructuredLogHandler  # noqa: PLC0415

    # The handler would open its log with a line about itself.
    google.cloud.logging_v2._instrumentation_emitted = True  # noqa: SLF001 - there is no public way
    handler: logging.Handler = StructuredLogHandler(stream=sys.stdout)
    return handler


def configure(level: str) -> None:
    """Send the log to stdout; `level` is a name of the `logging` module."""
    _LOGGER.handlers = [_Structured()]
    _LOGGER.setLevel(level)
    _LOGGER.propagate = False


def load_formatter() -> None:
    """Import what writes the lines."""
    _structured()


def ignored(reason: str) -> None:
    """Log an event that was none of ours; most are, so the level is DEBUG."""
    _LOGGER.debug("Ignored an event", extra={"json_fields": {"reason": reason}})


def answered(status: int, outcome: str, fields: dict[str, Any]) -> None:
    """Log the answer to one event: its HTTP status, the outcome in one line, and what it was about."""
    level = logging.INFO if status < 500 else logging.WARNING  # noqa: PLR2004 - HTTP's server errors
    _LOGGER.log(level, "Answered an event", extra={"json_fields": {"status": status, "outcome": outcome, **fields}})


def repaired(namespace: str, plans: tuple[dict[str, str], ...], fault: str) -> None:
    """Log what was done to a workload to which no event pointed, or what kept it from being done."""
    fields = {"namespace": namespace, "plans": plans, **({"fault": fault} if fault else {})}
    _LOGGER.info("Repaired a workload", extra={"json_fields": fields})


def asked(namespace: str, image: str, equivalent: str, state: str) -> None:
    """Log what a registry said of one equivalent in calm weather; the status tells it too, so the level is DEBUG."""
    fields = {"namespace": namespace, "image": image, "equivalent": equivalent, "state": state}
    _LOGGER.debug("Asked a registry", extra={"json_fields": fields})


def failed(message: str, fields: dict[str, Any]) -> None:
    """Log something that went wrong beside the answer, such as a record that could not be written."""
    _LOGGER.warning(message, extra={"json_fields": fields})


def crashed(fault: BaseException, fields: dict[str, Any]) -> None:
    """Log a fault of Saffire's own, with its trace."""
    _LOGGER.error("Crashed on an event", exc_info=fault, extra={"json_fields": fields})


_MESSAGE = 1024


def printable(words: str) -> str:
    """Return text that quotes the cluster's users in printable ASCII, and no more of it than an operator reads."""
    if words.isascii() and words.isprintable():
        return words[:_MESSAGE]
    return "".join(one if one.isprintable() and one.isascii() else ascii(one)[1:-1] for one in words[:_MESSAGE])[
        :_MESSAGE
    ]
