"""Sources and pods that are as large as the API server lets a tenant make them: no other tenant waits for them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from statistics import median

from playground.cluster.api import Manifest
from testkit.api.namespace_fixture import GROUP, NamespaceFixture
from testkit.api.workloads import deployment
from testkit.hostile_corpus import SHAPES, sources

# Before sources were parsed once, and in turns, an Event beside such sources took seven times as long.
_TIMES = 4


@asynccontextmanager
async def repairs_without_end(hostile: NamespaceFixture) -> AsyncIterator[None]:
    """Have a namespace with 32 large sources repaired again and again, each time after a change of one of them."""
    made = sources(SHAPES["63488 equivalents of each image"])
    names = [manifest["metadata"]["name"] for manifest in made]
    manifests: list[Manifest] = [
        {"apiVersion": GROUP, "kind": manifest["kind"], "metadata": {"name": name}, "spec": manifest["spec"]}
        for name, manifest in zip(names, made, strict=True)
    ]
    live = [await hostile.apply(manifest) for manifest in manifests]

    posting = asyncio.Event()

    async def change() -> None:
        while True:
            for number, manifest in enumerate(manifests):
                mode = "Observe" if live[number]["spec"].get("mode") != "Observe" else "Enforce"
                live[number] = await hostile.apply({**manifest, "spec": {**manifest["spec"], "mode": mode}})
                posting.set()
                await hostile.post(live[number], "update")

    changing = asyncio.create_task(change())
    await posting.wait()
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
    assert answer.text.startswith("moved "), answer.text
    return time.perf_counter() - began


async def test_large_sources_of_another_namespace_delay_no_event(namespace: NamespaceFixture) -> None:
    """The middle of three Events of three namespaces takes at most four times as long as in quiet times."""
    async with AsyncExitStack() as stack:
        tenants = [await stack.enter_async_context(namespace.another()) for _ in range(6)]
        for tenant in tenants:
            await tenant.source(verification="Off", trigger="AnyFailure")
        events = [(await tenant.fail(deployment()))[1] for tenant in tenants]
        failures = list(zip(tenants, events, strict=True))
        quiet = [await seconds_of(*failure) for failure in failures[:3]]
        async with repairs_without_end(namespace):
            loud = [await seconds_of(*failure) for failure in failures[3:]]
    print(f"quiet {median(quiet):.3f} s, beside large sources {median(loud):.3f} s")  # noqa: T201
    assert median(loud) <= _TIMES * median(quiet)
