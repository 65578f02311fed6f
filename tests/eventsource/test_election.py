"""A source creates the Lease if it is absent, and leads."""

import asyncio
import contextlib
from pathlib import Path
from typing import NoReturn

import pytest

from eventsource.election import Election
from testkit.scripted_api import scripted_api, status

LEASES = "/apis/coordination.k8s.io/v1/namespaces/saffire/leases"
LEASE = {"metadata": {"name": "saffire-source", "resourceVersion": "1"}, "spec": {}}


@pytest.mark.parametrize("created", [(201, LEASE), status(409, "exists")], ids=["created", "created by another"])
async def test_an_absent_lease_is_created_and_taken(tmp_path: Path, created: tuple[int, object]) -> None:
    """So Saffire works where a tool does not apply Leases."""
    leads = asyncio.Event()

    async def lead() -> NoReturn:
        leads.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def answers() -> bool:
        return True

    path = f"{LEASES}/saffire-source"
    scripted = {
        f"GET {path}": [status(404), (200, LEASE)],
        f"POST {LEASES}": [created],
        f"PATCH {path}": [(200, LEASE)],
    }
    async with scripted_api(tmp_path, scripted) as server:
        election = Election(server, path, "first", function_answers=answers)
        task = asyncio.ensure_future(election.run(lead))
        try:
            async with asyncio.timeout(10):
                await leads.wait()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
