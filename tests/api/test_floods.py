"""
Floods of made-up CloudEvents: what strangers ask for costs the API server a bounded number of requests.

Each flood has a limited number of posts. The requests that it costs are counted in the audit log.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from playground.cluster.api import Manifest
from playground.function_process import FunctionProcess
from testkit.api.audit_log import AuditLog, Call
from testkit.api.function_client import Answer, FunctionClient
from testkit.api.namespace_fixture import GROUP, NamespaceFixture, reference, until
from testkit.api.workloads import NEW, deployment, images, pod, pod_spec, pod_spec_of

POSTS = 600
SENDERS = 8
BURST = 40
PER_SECOND = 15

Send = Callable[[FunctionClient, int], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Flood:
    """How a flood ended: its answers, what it cost, and how long it took."""

    answers: tuple[Answer, ...]
    calls: tuple[Call, ...]
    seconds: float

    def is_cheap(self) -> bool:
        """Tell whether every post was answered with 200, at the cost of few requests."""
        statuses = {answer.status for answer in self.answers}
        return statuses == {200} and len(self.calls) <= BURST + PER_SECOND * self.seconds


@pytest.fixture
async def strict_function(kubeconfig: Path, environ: dict[str, str]) -> AsyncIterator[FunctionProcess]:
    """Give a function with the pause between sweeps that it has by default, and without readiness probes."""
    settings = {"SAFFIRE_SWEEP_INTERVAL_SECONDS": "20", "SAFFIRE_PROBES_PER_MINUTE": "0"}
    async with FunctionProcess(kubeconfig, **settings, **environ) as served:
        yield served


async def flood(function: FunctionProcess, audit_log: AuditLog, send: Send, *, senders: int = SENDERS) -> Flood:
    """Have some senders post made-up CloudEvents, each one after the other."""
    mark, began = audit_log.mark(), time.monotonic()
    numbers = iter(range(POSTS))
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(FunctionClient(function.url)) for _ in range(senders)]
        sent = await asyncio.gather(*(_send_all(client, numbers, send) for client in clients))
    return Flood(
        answers=tuple(itertools.chain.from_iterable(sent)),
        calls=tuple(audit_log.calls(mark)),
        seconds=time.monotonic() - began,
    )


async def _send_all(client: FunctionClient, numbers: Iterator[int], send: Send) -> list[Answer]:
    return [await send(client, number) for number in numbers]


async def works(namespace: NamespaceFixture, function: FunctionProcess) -> None:
    """Assert that the function still repairs a namespace; if its source is younger than 1 s, at a further Event."""
    await namespace.source()
    _, event = await namespace.fail(deployment())

    async def has_moved() -> bool:
        answer = await namespace.post(event, url=function.url)
        assert 200 == answer.status
        return {"web": NEW} == images(pod_spec_of(await namespace.read(deployment())))

    await until(has_moved)


async def test_pings(namespace: NamespaceFixture, strict_function: FunctionProcess, audit_log: AuditLog) -> None:
    """However many pings come, one sweep is made in 20 s."""
    await namespace.source()
    done = await flood(strict_function, audit_log, lambda client, _: client.ping())
    assert {200} == {answer.status for answer in done.answers}
    assert 1 == sum(answer.text.startswith("swept ") for answer in done.answers)
    assert POSTS - 1 == sum(answer.text.startswith("ignored: the last sweep began ") for answer in done.answers)
    assert 1 == sum(call[:3] == ("list", "clusteralternateimagesources", "") for call in done.calls)


def changed(number: int, namespace: str = "") -> Manifest:
    """Return a made-up source, in a namespace, or cluster-wide without one."""
    metadata = {"name": f"source-{number}", "generation": 1, **({"namespace": namespace} if namespace else {})}
    kind = "AlternateImageSource" if namespace else "ClusterAlternateImageSource"
    return {"apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": {}}


async def test_changes_of_sources_that_do_not_exist(
    namespace: NamespaceFixture, strict_function: FunctionProcess, audit_log: AuditLog
) -> None:
    """In namespaces that do not exist, and cluster-wide."""

    async def send(client: FunctionClient, number: int) -> Answer:
        return await client.post(changed(number, f"invented-{number}" if number % 2 else ""))

    done = await flood(strict_function, audit_log, send)
    assert done.is_cheap()
    assert {"alternateimagesources", "clusteralternateimagesources"} == {call.resource for call in done.calls}
    await works(namespace, strict_function)


async def test_changes_that_are_none(
    namespace: NamespaceFixture, strict_function: FunctionProcess, audit_log: AuditLog
) -> None:
    """A real source that has not changed is looked at once; when it really changes, it is looked at again."""
    source = await namespace.source()
    done = await flood(strict_function, audit_log, lambda client, _: client.post(source, "update"))
    assert done.is_cheap()
    assert sum(call.resource == "pods" for call in done.calls) <= 2  # one look, and one that waited behind it
    changed_source = await namespace.source(mode="Paused")
    answer = await namespace.post(changed_source, "update", url=strict_function.url)
    assert 200 == answer.status

    async def was_looked_at() -> bool:
        return bool((await namespace.status())["observedGeneration"] == changed_source["metadata"]["generation"])

    await until(was_looked_at)
    async with namespace.another() as another:
        await works(another, strict_function)


@pytest.mark.parametrize("cluster_wide", [False, True], ids=["", "beside-a-selector"])
async def test_events_of_namespaces_that_do_not_exist(
    namespace: NamespaceFixture, strict_function: FunctionProcess, audit_log: AuditLog, *, cluster_wide: bool
) -> None:
    """With and without a cluster-wide source, whose selector looks at the labels of each namespace."""
    if cluster_wide:
        await namespace.cluster_source()
    await namespace.apply(pod())
    (failing,) = await namespace.failing()
    event = await namespace.event(failing)

    async def send(client: FunctionClient, number: int) -> Answer:
        name = f"invented-{number}"
        metadata = {**event["metadata"], "namespace": name}
        return await client.post(
            {**event, "metadata": metadata, "involvedObject": {**reference(failing), "namespace": name}}
        )

    done = await flood(strict_function, audit_log, send)
    # 200 namespaces are read one by one before their labels are listed.
    reads = [call for call in done.calls if call[:2] == ("get", "namespaces")]
    assert len(reads) <= (200 + 55 * done.seconds if cluster_wide else 0)
    others = tuple(call for call in done.calls if call not in reads)
    assert Flood(answers=done.answers, calls=others, seconds=done.seconds).is_cheap()


def made_up(event: Manifest, number: int) -> Manifest:
    """Return an Event like this one, without a time, of a pod that does not exist."""
    regarding = {**event["involvedObject"], "name": f"invented-{number}", "uid": f"uid-{number}"}
    metadata = {name: event["metadata"][name] for name in ("name", "namespace")}
    return {**event, "metadata": metadata, "lastTimestamp": None, "involvedObject": regarding}


async def test_a_pod_is_found_among_many_that_do_not_exist(namespace: NamespaceFixture, slow_node: str) -> None:
    """A hundred Events come at once, and only one is of a pod that fails, whose status does not show it yet."""
    await namespace.source()
    await namespace.apply(pod(pod_spec(nodeName=slow_node)))
    (failing,) = await until(namespace.pods)
    event = await namespace.event(failing)
    events = [*(made_up(event, number) for number in range(100)), event]
    answers = await asyncio.gather(*map(namespace.post, events))
    assert {200} == {answer.status for answer in answers}
    assert f"moved web of Pod/web to {NEW}" == answers[-1].text


async def test_events_of_pods_that_do_not_exist(
    namespace: NamespaceFixture, strict_function: FunctionProcess, audit_log: AuditLog
) -> None:
    """In a namespace with a source, 100 of them start repairs; after these, it is looked at some seconds later."""
    await namespace.source()
    await namespace.apply(pod())
    (failing,) = await namespace.failing()
    event = await namespace.event(failing)

    async def send(client: FunctionClient, number: int) -> Answer:
        return await client.post(made_up(event, number))

    done = await flood(strict_function, audit_log, send, senders=1)
    assert {200} == {answer.status for answer in done.answers}
    texts = Counter(answer.text for answer in done.answers)
    assert {"NoSuchPod", "ignored: among many others; a look at its namespace follows"} == texts.keys()
    assert 100 <= texts["NoSuchPod"] <= 105 + 5 * done.seconds
    assert len(done.calls) <= 5 * texts["NoSuchPod"] + 10 * done.seconds
    async with namespace.another() as another:
        await works(another, strict_function)
