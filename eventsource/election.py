"""
Takes a Lease (coordination.k8s.io/v1), renews it, and gives it back, so that one of several sources leads.

The rules are those of client-go's leaderelection, with its times. No source compares clocks: it may take the Lease of
another if it has itself seen no change of the Lease for the Lease's duration. A holder that could not renew the Lease
stops leading five seconds before that, whatever the reason. Each write names the version that was read, so if two
sources write at once, the API server refuses one.

A source takes part only as long as its own function does its work. So if the function beside the leader hangs, or
cannot reach the API server, another pod takes over.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NoReturn, Protocol

from saffire import logs
from saffire.errors import ConflictError, SaffireError, TransientError
from saffire.kube.client import AbsentError
from saffire.kube.manifest import Manifest, mapping, number, text

LEASE_SECONDS = 15
"""A Lease that has not changed for so many seconds may be taken."""
RENEW_SECONDS = 10.0
"""A holder leads for so many seconds after it has begun to renew the Lease, if that succeeds."""
RETRY_SECONDS = 2.0
"""The pause between two attempts to take or to renew the Lease, in seconds."""
_LOGGER = logging.getLogger("saffire.eventsource")


class LeaseServer(Protocol):
    """The part of `saffire.kube.client.ApiServer` that an election needs."""

    async def get(self, path: str) -> Manifest:
        """Return the Lease; raise `AbsentError` if there is none."""

    async def patch(self, path: str, operations: tuple[Manifest, ...]) -> Manifest:
        """Patch the Lease."""

    async def post(self, path: str, body: Manifest) -> None:
        """Create the Lease in the list at `path`; raise `ConflictError` if it exists."""


def may_take(spec: Manifest, identity: str, unchanged_seconds: float) -> bool:
    """
    Tell whether a source may take a Lease, or renew it.

    Args:
        spec: that of the Lease.
        identity: the name of the source.
        unchanged_seconds: for how long this source has seen no change of the Lease.

    >>> lease = {"holderIdentity": "first", "leaseDurationSeconds": 15}
    >>> [may_take(lease, "first", 1.0), may_take(lease, "second", 14.9), may_take(lease, "second", 15.0)]
    [True, False, True]
    >>> may_take({}, "second", 0.0)
    True

    """
    holder = text(spec, "holderIdentity")
    return holder in {"", identity} or unchanged_seconds >= (number(spec, "leaseDurationSeconds") or LEASE_SECONDS)


def renewed(spec: Manifest, identity: str, now: datetime) -> Manifest:
    """Return the spec of a Lease that `identity` takes or renews at `now`; if `identity` is `""`, it is given back."""
    at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    is_holder = text(spec, "holderIdentity") == identity
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": LEASE_SECONDS if identity else 1,
        "acquireTime": text(spec, "acquireTime") if is_holder else at,
        "renewTime": at,
        "leaseTransitions": number(spec, "leaseTransitions") + bool(identity and not is_holder),
    }


class Election:
    """
    Lets this source lead whenever it holds the Lease.

    Args:
        server: the API server.
        path: the URL path of the Lease, which is created if it is absent.
        identity: the name of this source, which no other has at the same time.
        function_answers: tells whether the function beside this source answers.

    """

    def __init__(
        self, server: LeaseServer, path: str, identity: str, *, function_answers: Callable[[], Awaitable[bool]]
    ) -> None:
        self.fault = "has not started"
        """Why this source takes no part in the election; `""` if it does, whether it leads or not."""
        self._server = server
        self._path = path
        self._identity = identity
        self._function_answers = function_answers
        self._seen = ""
        self._seen_at = 0.0
        self._held_until = 0.0

    def is_leader(self) -> bool:
        """Tell whether this source holds the Lease; while it does, no other source can."""
        return time.monotonic() < self._held_until

    async def run(self, lead: Callable[[], Awaitable[NoReturn]]) -> NoReturn:
        """
        Run `lead` whenever this source holds the Lease, and cancel it as soon as it does not.

        If this is cancelled, give the Lease back, so that another source takes over within two seconds.
        """
        while True:
            if await self._try():
                _LOGGER.info("Leads", extra={"json_fields": {"identity": self._identity}})
                try:
                    await self._lead(lead)
                finally:
                    self._held_until = 0.0
                    await self._give_back()
                _LOGGER.warning(
                    "Leads no more", extra={"json_fields": {"identity": self._identity, "error": self.fault}}
                )
            await asyncio.sleep(RETRY_SECONDS)

    async def _lead(self, lead: Callable[[], Awaitable[NoReturn]]) -> None:
        leading = asyncio.ensure_future(lead())
        renewing = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait([leading, renewing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leading, renewing):
                task.cancel()
            await asyncio.wait([leading, renewing])
        for task in (leading, renewing):
            if not task.cancelled():
                task.result()

    async def _renew(self) -> None:
        """Renew the Lease until it is lost."""
        while self.is_leader():
            await asyncio.sleep(min(RETRY_SECONDS, max(0.0, self._held_until - time.monotonic())))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._held_until - time.monotonic()):
                    if not await self._try() and not self.fault:
                        return  # another source holds it

    async def _try(self) -> bool:
        """Take or renew the Lease; tell whether that succeeded."""
        started = time.monotonic()
        try:
            if not await self._function_answers():
                raise TransientError("the function does not answer, or accepts no ping")
            lease = await self._lease()
            spec, version = mapping(lease, "spec"), text(lease, "metadata", "resourceVersion")
            if version != self._seen:
                self._seen, self._seen_at = version, time.monotonic()
            self.fault = ""
            if not may_take(spec, self._identity, started - self._seen_at):
                return False
            await self._write(version, renewed(spec, self._identity, datetime.now(UTC)))
        except (SaffireError, ValueError) as error:
            if str(error) != self.fault:
                logs.failed("Takes no part in the election", {"identity": self._identity, "error": str(error)})
            self.fault = str(error)
            return False
        self._held_until = started + RENEW_SECONDS
        return True

    async def _lease(self) -> Manifest:
        """Return the Lease; create it, without a holder, if it is absent."""
        try:
            return await self._server.get(self._path)
        except AbsentError:
            collection, _, name = self._path.rpartition("/")
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
            with suppress(ConflictError):  # another source has just created it
                await self._server.post(collection, lease)
            return await self._server.get(self._path)

    async def _write(self, version: str, spec: Manifest) -> None:
        """Write the Lease, if it still has this version; raise `ConflictError` if not."""
        test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        written = await self._server.patch(self._path, (test, {"op": "add", "path": "/spec", "value": spec}))
        self._seen, self._seen_at = text(written, "metadata", "resourceVersion"), time.monotonic()

    async def _give_back(self) -> None:
        """Let another source take the Lease at once, if this one still holds it."""
        with suppress(SaffireError, ValueError, TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                lease = await self._server.get(self._path)
                spec = mapping(lease, "spec")
                if text(spec, "holderIdentity") == self._identity:
                    version = text(lease, "metadata", "resourceVersion")
                    await self._write(version, renewed(spec, "", datetime.now(UTC)))
