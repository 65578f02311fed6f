"""Outage detector: pulls will fail, or have stalled, only if their registry is proven to be down."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.policy.history import timestamp
from saffire.pulls.cause import Cause
from saffire.pulls.failure import ANTICIPATED, STALLED, PullFailure, Section
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.reconcile.outage_detector import OutageDetector
from saffire.registry.check import ImageChecker
from testkit.builders import NOW, Object, pod, waiting
from testkit.check_registry import running_registry, transport
from testkit.scripted_api import Answers, scripted_api
from testkit.scripted_registry import Shape, hang, on, slow_at_first, status

MINUTE = timedelta(minutes=1)
FAILED = PullFailure(section=Section.CONTAINERS, container="web", image="", reason="ErrImagePull", cause=Cause.REFUSED)


def pulling(image: str, since: timedelta) -> Object:
    """Return a pod whose node has pulled this image for so long, without an Event and without an error."""
    made = pod(waiting(image=image, reason="ContainerCreating"), web=image)
    made["spec"]["nodeName"] = "node-1"
    made["status"]["startTime"] = timestamp(NOW - since)
    return made


@pytest.mark.parametrize(
    ("expected", "shape", "answered_at", "since"),
    [
        pytest.param([STALLED], hang, NOW - MINUTE, 5 * MINUTE, id="silent-now-and-not-before"),
        pytest.param([STALLED], status(503), NOW - MINUTE, 5 * MINUTE, id="it-answers-with-5xx"),
        pytest.param([], None, NOW - MINUTE, 5 * MINUTE, id="it-answers"),
        pytest.param([], slow_at_first(), NOW - MINUTE, 5 * MINUTE, id="it-answers-the-second-question"),
        pytest.param([], on("/blobs/", hang), NOW - MINUTE, 5 * MINUTE, id="it-answers-and-its-layers-hang"),
        pytest.param([], hang, None, 5 * MINUTE, id="it-has-never-answered"),
        pytest.param([], hang, NOW - timedelta(days=2), 5 * MINUTE, id="it-answered-days-ago"),
        pytest.param([], hang, NOW - MINUTE, MINUTE, id="not-for-long-enough"),
    ],
)
async def test_a_pull_has_stalled_if_its_registry_is_down(
    expected: list[str], shape: Shape | None, answered_at: datetime | None, since: timedelta
) -> None:
    """
    A large image may take minutes, and a registry that only nodes reach never answers Saffire.

    Nobody asks for layers: for each slow pull, that would cost one of the pulls that a registry allows, every minute.
    """
    server = ApiServer(Configuration(), timeout_seconds=5)
    async with registry_and_detector(server, shape, answered_at) as (domain, detector):
        detector.observe(pulling(f"{domain}/acme/web:v1", since))
        failing = await detector.extend([], [])
    await server.close()
    assert expected == [failure.reason for failing_pod in failing for failure in failing_pod.failures]


@asynccontextmanager
async def registry_and_detector(
    server: ApiServer, shape: Shape | None, answered_at: datetime | None
) -> AsyncIterator[tuple[str, OutageDetector]]:
    """Yield the domain of a registry that has this shape, and a detector whose API server is `server`."""
    async with (
        running_registry(tls=False) as registry,
        running_registry(tls=False) as alive,
        ImageChecker(transport(registry.domain, alive.domain)) as registries,
    ):
        registry.shape = shape
        cache = LookupCache(Cluster(server, Kinds()), registries, budget_seconds=0.5)
        known = {registry.domain: answered_at} if answered_at else {}
        faults = FaultLookup(lookup=Lookup(cache=cache, namespace="shop"), answered_at=known, now=NOW)
        # Saffire's own network is not to blame: another registry answers.
        await faults.lookup.check_original(f"{alive.domain}/acme/web:v1", ())
        yield registry.domain, OutageDetector(faults, now=NOW, stalls_after=2 * MINUTE)


@pytest.mark.parametrize(
    ("expected", "cause", "shape"),
    [
        pytest.param([ANTICIPATED], Cause.REFUSED, status(503), id="it-answers-with-5xx"),
        pytest.param([], Cause.REFUSED, slow_at_first(), id="it-is-slow"),
        pytest.param([ANTICIPATED], Cause.REFUSED, hang, id="it-answers-neither-question"),
        pytest.param([ANTICIPATED], Cause.TIMEOUT, slow_at_first(), id="the-node-has-waited-too"),
    ],
)
async def test_a_pull_will_fail_if_another_has_and_the_registry_is_down(
    expected: list[str], cause: Cause, shape: Shape
) -> None:
    """If the registry did not answer Saffire in time, it may be slow. A node that timed out too rules that out."""
    server = ApiServer(Configuration(), timeout_seconds=5)
    async with registry_and_detector(server, shape, NOW - MINUTE) as (domain, detector):
        image = f"{domain}/acme/web:v1"
        detector.observe(pulling(image, MINUTE))
        failing = await detector.extend([], [replace(FAILED, image=image, cause=cause)])
    await server.close()
    assert expected == [failure.reason for failing_pod in failing for failure in failing_pod.failures]


@pytest.mark.parametrize(
    ("expected", "condition", "events"),
    [
        pytest.param([], "False", [], id="it-waits-for-its-volume"),
        pytest.param([ANTICIPATED], "False", ["pod-uid"], id="its-kubelet-says-that-it-pulls"),
        pytest.param([], "False", ["another"], id="another-pod-pulls"),
        pytest.param([ANTICIPATED], "True", [], id="its-sandbox-is-there"),
        pytest.param([ANTICIPATED], None, [], id="its-kubelet-is-old"),
    ],
)
async def test_a_pod_that_may_wait_for_a_volume_is_not_expected_to_fail(
    tmp_path: Path, expected: list[str], condition: str | None, events: list[str]
) -> None:
    """Its image may be on the node, so that it starts without a pull; moving it would restart its siblings."""
    listed = [{"reason": "Pulling", "involvedObject": {"uid": uid}} for uid in events]
    answers: Answers = {"GET /api/v1/namespaces/shop/events": [(200, {"metadata": {}, "items": listed})]}
    async with (
        scripted_api(tmp_path, answers) as server,
        registry_and_detector(server, status(503), NOW - MINUTE) as (domain, detector),
    ):
        image = f"{domain}/acme/web:v1"
        live = pulling(image, MINUTE)
        if condition:
            live["status"]["conditions"] = [{"type": "PodReadyToStartContainers", "status": condition}]
        detector.observe(live)
        failing = await detector.extend([], [replace(FAILED, image=image)])
    assert expected == [failure.reason for failing_pod in failing for failure in failing_pod.failures]
