"""Outage detector: a pull has stalled only if its registry is proven to be down."""

from datetime import datetime, timedelta

import pytest
from kubernetes.aio.client import Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.policy.history import timestamp
from saffire.pulls.failure import STALLED
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.reconcile.outage_detector import OutageDetector
from saffire.registry.check import ImageChecker
from testkit.builders import NOW, Object, pod, waiting
from testkit.check_registry import running_registry, transport
from testkit.scripted_registry import Shape, hang, on, status

MINUTE = timedelta(minutes=1)


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
    async with (
        running_registry(tls=False) as registry,
        running_registry(tls=False) as alive,
        ImageChecker(transport(registry.domain, alive.domain)) as registries,
    ):
        registry.shape = shape
        server = ApiServer(Configuration(), timeout_seconds=5)
        cache = LookupCache(Cluster(server, Kinds()), registries, budget_seconds=0.5)
        known = {registry.domain: answered_at} if answered_at else {}
        faults = FaultLookup(lookup=Lookup(cache=cache, namespace="shop"), answered_at=known, now=NOW)
        # Saffire's own network is not to blame: another registry answers.
        await faults.lookup.check_original(f"{alive.domain}/acme/web:v1", ())
        detector = OutageDetector(faults, now=NOW, stalls_after=2 * MINUTE)
        detector.observe(pulling(f"{registry.domain}/acme/web:v1", since))
        failing = await detector.extend([], [])
        await server.close()
    assert expected == [failure.reason for failing_pod in failing for failure in failing_pod.failures]
