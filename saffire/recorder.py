"""
Keeping records: one writer per source, so that a storm's failovers do not fight over its status.

Records that arrive while a write is under way wait, and go together with the next one. Recovery comes first: a record
that cannot be written undoes no patch. It is logged, and kept for the next write to that source.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from weakref import WeakValueDictionary

from saffire import telemetry
from saffire.cluster import Cluster
from saffire.errors import ConflictError, SaffireError
from saffire.manifest import Manifest, name_of, text, uid_of
from saffire.record import Record
from saffire.status import status_after

# Other instances write too; each conflict means that one of them made progress.
_ATTEMPTS = 8
# As many as a status keeps.
_KEPT = 50


class Recorder:
    """Writes the status of sources and posts Events."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._waiting: dict[str, list[Record]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def update(self, source: Manifest, records: Iterable[Record], *, now: datetime) -> None:
        """Bring the status of `source` up to date and add `records` to it."""
        uid, mine = uid_of(source), list(records)
        self._waiting.setdefault(uid, []).extend(mine)
        lock = self._locks.setdefault(uid, asyncio.Lock())
        if not mine and lock.locked():
            return  # whoever writes now brings the conditions up to date as well
        async with lock:
            together = self._waiting.pop(uid, [])
            if mine and not together:
                return
            try:
                await self._write(source, together, now=now)
            except BaseException as error:
                self._waiting[uid] = [*together, *self._waiting.get(uid, ())][-_KEPT:]
                if not isinstance(error, SaffireError):
                    raise
                fields = {"source": f"{text(source, 'metadata', 'namespace')}/{name_of(source)}", "error": str(error)}
                telemetry.failed("Could not write a source's status", fields)

    async def post(self, event: Manifest) -> None:
        """Post an Event; whatever keeps the API server from taking it is only logged."""
        try:
            await self._cluster.post_event(event)
        except SaffireError as error:
            telemetry.failed("Could not post an Event", {"name": name_of(event), "error": str(error)})

    async def _write(self, source: Manifest, records: Sequence[Record], *, now: datetime) -> None:
        """Write the status; read the source again as long as others write it too."""
        current: Manifest | None = source
        for _ in range(_ATTEMPTS):
            if current is None:
                return
            status = status_after(current, records, now=now)
            if status is None:
                return
            try:
                await self._cluster.write_status(current, status)
            except ConflictError:
                if not records:
                    return  # whoever was first brought the conditions up to date as well
                current = await self._cluster.source(text(source, "metadata", "namespace"), name_of(source))
            else:
                return
        raise ConflictError("others keep writing it")
