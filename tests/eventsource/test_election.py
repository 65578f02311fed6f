"""A source creates the Lease if it is absent, and leads."""

import asyncio
import contextlib
from typing import NoReturn

import pytest

from eventsource.election import Election
from saffire.errors import ConflictError, DeniedError
from saffire.kube.client import AbsentError
from saffire.kube.manifest import Manifest

LEASES = "/apis/coordination.k8s.io/v1/namespaces/saffire/leases"
LEASE = f"{LEASES}/saffire-source"


class Leases:
    """An API server without a Lease; if `is_raced`, another source creates it first."""

    def __init__(self, *, is_raced: bool) -> None:
        self.spec: Manifest | None = None
        self._is_raced = is_raced

    async def get(self, path: str) -> Manifest:
        """Return the Lease, if it exists."""
        assert path == LEASE
        if self.spec is None:
            raise AbsentError("there is no such object")
        return {"metadata": {"resourceVersion": "1"}, "spec": self.spec}

    async def post(self, path: str, body: Manifest) -> None:
        """Create the Lease."""
        assert (path, body["metadata"]) == (LEASES, {"name": "saffire-source"})
        self.spec = {}
        if self._is_raced:
            raise ConflictError("it exists")

    async def patch(self, path: str, operations: tuple[Manifest, ...]) -> Manifest:
        """Write the spec of the Lease."""
        self.spec = operations[-1]["value"]
        return await self.get(path)


@pytest.mark.parametrize("is_raced", [False, True], ids=["by this source", "by another at once"])
async def test_an_absent_lease_is_created_and_taken(is_raced: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """So Saffire works where a tool does not apply Leases."""
    leads = asyncio.Event()

    async def lead() -> NoReturn:
        leads.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def answers() -> bool:
        return True

    server = Leases(is_raced=is_raced)
    task = asyncio.ensure_future(Election(server, LEASE, "first", function_answers=answers).run(lead))
    try:
        async with asyncio.timeout(10):
            await leads.wait()
        assert server.spec
        assert "first" == server.spec["holderIdentity"]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_keeps_a_source_from_the_election_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A kubelet tells only that the probe failed, and the image has no shell to ask it."""
    tried = asyncio.Semaphore(0)

    class Forbidding(Leases):
        async def get(self, path: str) -> Manifest:
            assert path == LEASE
            tried.release()
            raise DeniedError("leases is forbidden")

    async def lead() -> NoReturn:
        raise AssertionError("it holds no Lease")

    async def answers() -> bool:
        return True

    election = Election(Forbidding(is_raced=False), LEASE, "first", function_answers=answers)
    task = asyncio.ensure_future(election.run(lead))
    try:
        async with asyncio.timeout(30):
            await tried.acquire()
            await tried.acquire()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    logged = [record for record in caplog.records if record.message == "Takes no part in the election"]
    assert ["leases is forbidden"] == [record.json_fields["error"] for record in logged]  # type: ignore[attr-defined]
