"""Saffire without Knative: its own event source, under its own account, in a process beside the function."""

import base64
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventsource.cloudevent import Envelope, render
from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from testkit.api.clusters import NAMESPACE
from testkit.api.event_source import (
    EventSourceProcess,
    EventSourceSink,
    install_source,
    parsed,
    standalone,
    write_event,
)
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.workloads import NEW, deployment, images, pod_spec_of

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
async def account(cluster: ControlPlane) -> Path:
    """Give the kubeconfig of the event source's account."""
    return await install_source(cluster)


@pytest.fixture
async def sink() -> AsyncIterator[EventSourceSink]:
    """Give a sink that records CloudEvents."""
    async with EventSourceSink() as opened:
        yield opened


async def test_a_workload_moves_by_its_event(
    account: Path, kubeconfig: Path, environ: dict[str, str], namespace: NamespaceFixture
) -> None:
    """The source's account and the function's are enough for a failed Deployment to move, without a sweep."""
    async with (
        FunctionProcess(kubeconfig, **environ) as function,
        EventSourceProcess(account, function.url) as source,
    ):
        await source.until_ready()
        await namespace.source()

        async def source_is_known() -> bool:
            (shop,) = (await namespace.api.get(namespace.sources))["items"]
            return "observedGeneration" in shop.get("status", {})

        async def workload_has_moved() -> bool:
            live = await namespace.api.get(f"/apis/apps/v1/namespaces/{namespace.name}/deployments/web")
            return images(pod_spec_of(live)) == {"web": NEW}

        async def event_is_answered() -> bool:  # the answer follows the patch
            return any(
                line["event"].startswith(f"{namespace.name}/web-")  # the source tells of other namespaces, too
                for line in function.log()
                if line.get("plans") and line["message"] == "Answered an event"
            )

        await until(source_is_known)
        await namespace.apply(deployment())
        await until(workload_has_moved)
        await until(event_is_answered)


async def test_it_sends_what_the_function_reads_and_nothing_else(
    cluster: ControlPlane, account: Path, sink: EventSourceSink, namespace: NamespaceFixture
) -> None:
    """Failed pulls and back-offs of pods are sent when they come and when they change; deletions and others are not."""
    api, name = cluster.admin, namespace.name
    async with EventSourceProcess(account, sink.url) as source:
        await source.until_ready()
        node = {"involvedObject": {"apiVersion": "v1", "kind": "Node", "name": "n", "namespace": name}}
        await write_event(api, name, "node", **node)
        await write_event(api, name, "unscheduled", reason="FailedScheduling")
        await write_event(api, name, "pulled", type="Normal", reason="Pulled")
        failed = await write_event(api, name, "failed")
        await sink.eventually(name, "failed")
        (request,) = sink.about(name)
        headers, _ = parsed(request)
        envelope = Envelope(
            id=headers["Ce-Id"],
            time=headers["Ce-Time"],
            source=cluster.server,
            host=sink.url.split("/")[2],
            namespace=NAMESPACE,
        )
        assert render("add", failed, envelope) == request
        await api.patch(f"/api/v1/namespaces/{name}/events/failed", {"count": 2})
        await api.delete(f"/api/v1/namespaces/{name}/events/failed")
        await sink.eventually(name, "failed", "failed")
        await write_event(api, name, "backed-off", type="Normal", reason="BackOff")
        await sink.eventually(name, "failed", "failed", "backed-off")
        await namespace.source()
        await sink.eventually(name, "failed", "failed", "backed-off", "shop")
    assert "dev.knative.apiserver.resource.update" == parsed(sink.about(name)[1])[0]["Ce-Type"]


async def test_what_came_before_the_start_is_left_to_a_sweep(
    cluster: ControlPlane, account: Path, sink: EventSourceSink, namespace: NamespaceFixture
) -> None:
    """A source that was killed asks for a sweep as soon as it is back; it posts no Event of the time between."""
    async with EventSourceProcess(account, sink.url) as source:
        await source.until_ready()
        await sink.until_swept(1)
        os.kill(source.pid, signal.SIGKILL)
    await write_event(cluster.admin, namespace.name, "between")
    swept = sink.sweeps()
    async with EventSourceProcess(account, sink.url) as source:
        await sink.until_swept(swept + 1)
        await source.until_ready()
        await write_event(cluster.admin, namespace.name, "after")
        await sink.eventually(namespace.name, "after")


async def test_it_says_what_keeps_it_from_its_work(cluster: ControlPlane, sink: EventSourceSink) -> None:
    """Without the right to watch, the process runs, is not ready, and names the fault."""
    await cluster.admin.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "powerless", "namespace": NAMESPACE}}
    )
    powerless = await cluster.kubeconfig_for(NAMESPACE, "powerless")
    async with EventSourceProcess(powerless, sink.url) as source:

        async def refused() -> bool:
            status, text = await source.probe("/readyz")
            return status == 503 and 'cannot list resource "events"' in text

        await until(refused)
        assert 200 == (await source.probe("/healthz"))[0]
        assert "Cannot watch, and tries again" in source.output()


async def test_its_secret_gives_it_the_power_to_watch_and_no_other(cluster: ControlPlane, account: Path) -> None:  # noqa: ARG001
    """The token that Kubernetes writes into the Secret is that of the source's account."""
    path = await cluster.admin.path(await cluster.admin.apply(standalone("source-secret")))

    async def data() -> Manifest | None:
        content: Manifest = (await cluster.admin.get(path)).get("data", {})
        return content if "token" in content else None

    files = await until(data)
    assert {"ca.crt", "namespace", "token"} == set(files)
    token = base64.b64decode(files["token"]).decode()
    async with Api(cluster.server, str(cluster.authority), token) as api:
        assert (await api.get("/api/v1/events", limit="1"))["items"] is not None
        with pytest.raises(ApiError, match="cannot create resource"):
            await write_event(api, NAMESPACE, "forged")
        with pytest.raises(ApiError, match="cannot patch resource"):
            await api.patch(f"/api/v1/namespaces/{NAMESPACE}/pods/any", {})
        with pytest.raises(ApiError, match="cannot list resource"):
            await api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets")
