"""Sources and pods that are as large as the API server lets a tenant make them: no other tenant waits for them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from statistics import median

from playground.cluster.api import Manifest
from testkit.api.namespace_fixture import GROUP, NamespaceFixture
from testkit.api.workloads import deployments
from testkit.hostile_corpus import SHAPES, sources

# The quiet Event takes some hundredths of a second. Before sources were parsed once and in turns, one beside such
# sources took sixty times as long.
_TIMES = 10


@asynccontextmanager
async def repairs_without_end(hostile: NamespaceFixture) -> AsyncIterator[None]:
    """Have a namespace with 32 large sources repaired again and again, each time after a change of one of them."""
    manifests = [
        {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": made["metadata"]["name"]}}
        | {"spec": made["spec"]}
        for made in sources(SHAPES["63488 equivalents of each image"])
    ]
    live = [await hostile.apply(manifest) for manifest in manifests]

    async def change() -> None:
        while True:
            for number, manifest in enumerate(manifests):
                mode = "Observe" if live[number]["spec"].get("mode") != "Observe" else "Enforce"
                live[number] = await hostile.apply({**manifest, "spec": {**manifest["spec"], "mode": mode}})
                await hostile.post(live[number], "update")

    changing = asyncio.create_task(change())
    try:
        yield
    finally:
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing


async def seconds_of(namespace: NamespaceFixture, event: Manifest) -> float:
    """Return how long the function takes to answer an Event, which it answers once the workload is moved."""
    began = time.perf_counter()
    answer = await namespace.post(event, waits=False)
    assert "Failover" in answer.text, answer.text
    return time.perf_counter() - began


async def test_large_sources_of_another_namespace_delay_no_event(namespace: NamespaceFixture) -> None:
    """The middle of five Events takes at most ten times as long as in quiet times."""
    await namespace.source(verification="Off", trigger="AnyFailure")
    events = [(await namespace.fail(manifest))[1] for manifest in deployments(10)]
    quiet = [await seconds_of(namespace, event) for event in events[:5]]
    async with namespace.another() as hostile, repairs_without_end(hostile):
        loud = [await seconds_of(namespace, event) for event in events[5:]]
    print(f"quiet {median(quiet):.3f} s {quiet}, beside large sources {median(loud):.3f} s {loud}")  # noqa: T201
    assert median(loud) <= _TIMES * median(quiet)
