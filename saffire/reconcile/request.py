"""
What the rest of Saffire is asked to do: the requests that triage makes of CloudEvents, and the work items of a queue.

A request names a place to look. It claims nothing about what is there.
"""

from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Hint:
    """
    Where to look: a pod, and the Event that told of it.

    `container` and `image` are `""` where the Event names none, and `at` is when it was last written, `None` where it
    does not say. Every name is valid in a URL.
    """

    namespace: str
    pod: str
    pod_uid: str
    container: str
    event: str
    image: str = ""
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Look at a whole namespace: the source of that name has changed there."""

    namespace: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LookAround:
    """Look at every namespace for which the cluster-wide source of that name speaks: it has changed."""

    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Look at every namespace for which a source speaks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """
    What a repair of a namespace is to look at.

    That is the pods of `hints`; with `wide` every pod, and with `thorough` also whether earlier failovers are complete
    and recorded.
    """

    namespace: str
    hints: tuple[Hint, ...] = ()
    wide: bool = False
    thorough: bool = False

    def merged(self, other: "Order") -> "Order":
        """Return one order for both."""
        hints = tuple(dict.fromkeys((*self.hints, *other.hints)))
        wide, thorough = self.wide or other.wide, self.thorough or other.thorough
        return replace(self, hints=hints, wide=wide, thorough=thorough)
