"""Of two event sources that share a Lease, one posts; the other takes over when the first cannot."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.clusters import NAMESPACE, stopped
from testkit.api.event_source import (
    LEASE,
    LEASE_PATH,
    EventSourceProcess,
    EventSourceSink,
    install_source,
    write_event,
)
from testkit.api.namespace_fixture import NamespaceFixture, until


class Replica:
    """A pod of the Deployment: an event source, and a sink in the place of its function."""

    def __init__(self, name: str, process: EventSourceProcess, sink: EventSourceSink) -> None:
        self.name = name
        self.process = process
        self.sink = sink


@pytest.fixture(scope="module")
async def account(cluster: ControlPlane) -> Path:
    """Give the kubeconfig of the event source's account."""
    return await install_source(cluster)


@asynccontextmanager
async def replica(name: str, account: Path) -> AsyncIterator[Replica]:
    """Run a replica, and yield it once it leads or waits."""
    arguments = (f"--lease={NAMESPACE}/{LEASE}", f"--identity={name}")
    async with EventSourceSink() as sink, EventSourceProcess(account, sink.url, *arguments) as process:
        await process.until_ready()
        yield Replica(name, process, sink)


@pytest.fixture
async def replicas(cluster: ControlPlane, account: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """Give two replicas; the first leads."""
    await cluster.admin.patch(LEASE_PATH, {"spec": None})
    async with replica("first", account) as first:
        await until_held(cluster, "first")
        await first.sink.until_swept(1)
        async with replica("second", account) as second:
            yield first, second


async def lease(cluster: ControlPlane) -> Manifest:
    """Return the spec of the Lease; an empty one if it is absent."""
    try:
        spec: Manifest = (await cluster.admin.get(LEASE_PATH))["spec"]
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return {}
    return spec


async def until_held(cluster: ControlPlane, holder: str) -> None:
    """Wait until the Lease has this holder."""

    async def is_held() -> bool:
        return (await lease(cluster)).get("holderIdentity") == holder

    await until(is_held)


async def test_a_lease_that_is_absent_is_created(cluster: ControlPlane, account: Path) -> None:
    """Where a tool applies no Leases, or if somebody deletes it, a source leads all the same."""
    await cluster.admin.delete(LEASE_PATH)
    async with replica("first", account) as first:
        await until_held(cluster, "first")
        await cluster.admin.delete(LEASE_PATH)
        await until_held(cluster, "first")
        assert "Leads no more" not in first.process.output()


async def test_one_posts_and_the_other_waits(
    cluster: ControlPlane, replicas: tuple[Replica, Replica], namespace: NamespaceFixture
) -> None:
    """An Event goes to the function beside the leader alone, and so do sweeps; the waiting pod is ready."""
    first, second = replicas
    await write_event(cluster.admin, namespace.name, "web")
    await first.sink.eventually(namespace.name, "web")
    assert [] == second.sink.requests
    assert 200 == (await second.process.probe("/readyz"))[0]


async def test_a_killed_leader_is_followed_with_a_sweep(
    cluster: ControlPlane, replicas: tuple[Replica, Replica], namespace: NamespaceFixture
) -> None:
    """When the Lease has run out, the other asks for a sweep, and posts what comes."""
    first, second = replicas
    transitions = (await lease(cluster))["leaseTransitions"]
    os.kill(first.process.pid, signal.SIGKILL)
    await until_held(cluster, "second")
    await second.sink.until_swept(1)
    await write_event(cluster.admin, namespace.name, "web")
    await second.sink.eventually(namespace.name, "web")
    assert transitions + 1 == (await lease(cluster))["leaseTransitions"]


async def test_a_leader_that_is_told_to_end_hands_over(
    cluster: ControlPlane, replicas: tuple[Replica, Replica]
) -> None:
    """It gives the Lease back, so that nobody waits for it to run out; its exit status is 0."""
    first, second = replicas
    os.kill(first.process.pid, signal.SIGTERM)
    assert 0 == await first.process.ended()
    # Until now, only the first has held it, and it has not run out.
    assert (await lease(cluster))["holderIdentity"] in {"", "second"}
    await until_held(cluster, "second")
    await second.sink.until_swept(1)


async def test_a_leader_that_slept_posts_nothing_more(
    cluster: ControlPlane, replicas: tuple[Replica, Replica], namespace: NamespaceFixture
) -> None:
    """A process that stood still for longer than its Lease finds that it is not the leader before it posts."""
    first, second = replicas
    with stopped(first.process.pid):
        await until_held(cluster, "second")
        await second.sink.until_swept(1)
        for number in range(20):
            await write_event(cluster.admin, namespace.name, f"web-{number}")
        await second.sink.eventually(namespace.name, *(f"web-{number}" for number in range(20)))
    await first.process.until_logged("Leads no more")
    assert [] == first.sink.about(namespace.name)


async def test_a_leader_whose_function_hangs_steps_down(
    cluster: ControlPlane, replicas: tuple[Replica, Replica]
) -> None:
    """A source takes part only while the function beside it answers."""
    first, second = replicas
    async with first.sink.hanging():
        await until_held(cluster, "second")
        await second.sink.until_swept(1)
        assert (503, "the function does not answer, or accepts no ping") == await first.process.probe("/readyz")


async def test_the_lease_is_all_that_it_may_write(cluster: ControlPlane, account: Path) -> None:  # noqa: ARG001
    """The account may create Leases in its namespace, but neither read nor change another, nor delete its own."""
    user = "system:serviceaccount:saffire:saffire-source"

    async def may(verb: str, name: str) -> Any:
        attributes = {"verb": verb, "group": "coordination.k8s.io", "resource": "leases", "namespace": NAMESPACE}
        spec = {"user": user, "resourceAttributes": {**attributes, "name": name}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await cluster.admin.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return answer["status"]["allowed"]

    assert [True] * 3 == [await may(verb, LEASE) for verb in ("create", "get", "patch")]
    assert not any([await may(verb, LEASE) for verb in ("delete", "update", "list", "watch")])
    assert not any([await may(verb, "other") for verb in ("get", "patch")])
