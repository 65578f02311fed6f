"""
Responses: what a registry's HTTP status and headers mean, where they say all there is to say.

The statuses are those of the distribution specification; 404 alone says that something is absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from multidict import CIMultiDictProxy

from saffire.availability import Denied, KnownBad, Throttled, Unknown, Unreachable
from saffire.image import is_digest

_MAX_RETRY = 24 * 3600
_SERVER_ERROR = 500


class Settled(Exception):
    """There is nothing more to ask: `answer` is all that can be said of the image."""

    def __init__(self, answer: KnownBad | Unknown) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """What was answered; `elsewhere` tells that a redirect led to another origin, which speaks for itself only."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    elsewhere: bool

    @property
    def digest(self) -> str:
        """The digest that the registry tells; `""` where it tells none."""
        told = self.headers.get("Docker-Content-Digest", "")
        return told if is_digest(told) else ""

    def check(self, absent: KnownBad | Unknown) -> None:
        """Raise `Settled` where the status is not that of something that is there; `absent` where it says that."""
        match self.status:
            case 200 | 206:
                return
            case 404:
                raise Settled(absent)
            case 401 | 403:
                raise Settled(Denied())
            case 429:
                raise Settled(Throttled(_retry_after(self.headers)))
            case _:
                raise Settled(Unreachable(f"it answered {self.status}", is_silent=self.status >= _SERVER_ERROR))


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Return in how many seconds to ask again; a date counts from the registry's own (RFC 9110, section 10.2.3)."""
    written = headers.get("Retry-After", "").strip()
    if written.isascii() and written.isdigit():
        return min(int(written[:9]), _MAX_RETRY)
    then, now = _date(written), _date(headers.get("Date", ""))
    return min(max(0, int((then - now).total_seconds())), _MAX_RETRY) if then and now else None


def _date(written: str) -> datetime | None:
    try:
        return parsedate_to_datetime(written).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
