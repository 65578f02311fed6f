"""The pods of a namespace, listed once in a repair: the first page early, since running pods tell what an image is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from saffire.cluster import Cluster
from saffire.errors import SaffireError
from saffire.event import read_event
from saffire.failure import Case, find
from saffire.manifest import Manifest

# As many as a page has.
_FIRST = 250


class Pods:
    """
    The pods of one namespace.

    Args:
        see: is shown each pod, once.

    """

    def __init__(self, cluster: Cluster, namespace: str, *, see: Callable[[Manifest], None]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._see = see
        self._peeking = asyncio.Lock()
        self._first: list[Manifest] | None = None
        self._rest: AsyncIterator[Manifest] | None = None

    async def peek(self) -> bool:
        """
        Read the first page, unless it was read, and tell whether that went well.

        Should it fail, whoever needs all pods will hear of it.
        """
        async with self._peeking:
            if self._first is None:
                self._first = await self._read_first()
        return self._rest is not None

    async def _read_first(self) -> list[Manifest]:
        first: list[Manifest] = []
        rest = self._cluster.pods(self._namespace)
        try:
            async for pod in rest:
                self._see(pod)
                first.append(pod)
                if len(first) == _FIRST:
                    break
        except SaffireError:
            return []
        self._rest = rest
        return first

    async def all(self) -> AsyncIterator[Manifest]:
        """Yield every pod, as it was when it was read; raise a `SaffireError` where they cannot be listed."""
        for pod in (self._first or []) if self._rest else []:
            yield pod
        self._first = []
        async for pod in self._rest or self._cluster.pods(self._namespace):
            self._see(pod)
            yield pod


async def told(cluster: Cluster, namespace: str, unclear: dict[str, Manifest]) -> list[Case]:
    """
    Return those of the `unclear` pods of which live Events tell that they failed, and leave the others.

    A kubelet writes the Event of a failed pull up to a second before the pod's status. They are by the uid that Events
    call them by; whatever keeps their Events from being read, each has one of its own to come.
    """
    reports = {}
    if unclear:
        with suppress(SaffireError):
            async for event in cluster.failures(namespace):
                report = read_event(event)
                if report and report.error and report.pod_uid in unclear:
                    reports[report.pod_uid] = report
    found = {uid: find(unclear[uid], report) for uid, report in reports.items()}
    return [Case(pod=unclear.pop(uid), failures=failures) for uid, failures in found.items() if failures]
