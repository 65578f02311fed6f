"""What an Event costs the API server, by its audit log: nothing if it does not matter, and little otherwise."""

from collections import Counter
from typing import Any

import pytest

from eventsource.cloudevent import Change
from playground.cluster.api import Manifest
from testkit.api.audit_log import AuditLog
from testkit.api.namespace_fixture import NamespaceFixture, until, waiting
from testkit.api.workloads import OLD, deployment, pod, pod_spec

READS = ["get alternateimagesources", "get deployments", "get namespaces", "get pods", "get replicasets"]
AROUND = ["list pods", "list pods"]
"""As they were, to tell which digest the failing image has; and as they are, when the workload has moved."""
CLUSTER_WIDE = "list clusteralternateimagesources"
RECORD = ["create events", "create events", "patch alternateimagesources/status"]

UNRELATED: dict[str, dict[str, Any]] = {
    "a pull that starts": {"type": "Normal", "reason": "Pulling", "message": f'Pulling image "{OLD}"'},
    "a pull that worked": {"type": "Normal", "reason": "Pulled", "message": f'Successfully pulled image "{OLD}"'},
    "a crash loop": {"reason": "BackOff", "message": "Back-off restarting failed container web in pod web_shop(1)"},
    "a container that cannot start": {"message": 'Error: failed to start container "web": exec: "no": not found'},
    "a missing ConfigMap": {"message": "Error: CreateContainerConfigError"},
    "a name that is none": {"reason": "InspectFailed", "message": 'Failed to apply default image tag "web:"'},
    "a policy never to pull": {"reason": "ErrImageNeverPull", "message": f'Container image "{OLD}" is not present'},
    "a node": {"involvedObject": {"apiVersion": "v1", "kind": "Node", "name": "api", "uid": "api"}},
    "another kind of Pod": {"involvedObject": {"apiVersion": "example.com/v1", "kind": "Pod", "name": "w", "uid": "w"}},
    "an object that is no Event": {"kind": "Pod", "apiVersion": "v1"},
    "an Event of another API": {"apiVersion": "example.com/v1"},
}


def spent(namespace: NamespaceFixture) -> list[str]:
    """Return the function's requests since the last mark, sorted."""
    return sorted(f"{call.verb} {call.resource}" for call in namespace.calls())


async def test_a_failing_pod_of_a_deployment_costs_six_requests(namespace: NamespaceFixture) -> None:
    """Five reads and one patch move a Deployment. Two lists, before and after, read the other pods of the namespace."""
    await namespace.source()
    _, event = await namespace.fail(deployment())
    namespace.mark()
    await namespace.post(event)
    assert 6 == len([*READS, "patch deployments"])
    assert sorted([*READS, "patch deployments", *AROUND, *RECORD]) == spent(namespace)


async def test_an_event_ahead_of_the_status_costs_one_request_more(namespace: NamespaceFixture, slow_node: str) -> None:
    """If the pod's status lags behind, the live Event is read as well: seven requests besides those of the record."""
    await namespace.source()
    await namespace.apply(deployment(pod_spec(nodeName=slow_node)))
    failing = await until(namespace.pods)
    event = await namespace.event(failing[0])
    assert [{"ContainerCreating"}] == [waiting(pod) for pod in await namespace.pods()]
    namespace.mark()
    await namespace.post(event)
    assert 7 == len([*READS, "get events", "patch deployments"])
    assert sorted([*READS, "get events", "patch deployments", *AROUND, *RECORD]) == spent(namespace)


async def test_an_event_about_work_that_is_done_costs_nothing(namespace: NamespaceFixture, audit_log: AuditLog) -> None:
    """A second delivery, or any Event about the pod that is older than its repair, is answered without a request."""
    await namespace.source()
    _, event = await namespace.fail(deployment())
    await namespace.post(event)
    mark = audit_log.mark()
    answer = await namespace.post(event)
    assert (200, "ignored: older than the last look at it") == (answer.status, answer.text)
    assert [] == audit_log.calls(mark)


async def test_a_namespace_without_a_source_costs_nothing(namespace: NamespaceFixture, audit_log: AuditLog) -> None:
    """Without sources, one list of all sources serves every failed pull within a second."""
    _, event = await namespace.fail(deployment())
    mark = audit_log.mark()
    answers = [await namespace.post(event) for _ in range(5)]
    assert {(200, "NoSource: the namespace has no AlternateImageSource")} == {
        (answer.status, answer.text) for answer in answers
    }
    assert [] == namespace.calls()
    lists = Counter(f"{call.verb} {call.resource}" for call in audit_log.calls(mark))
    assert lists.keys() <= {"list alternateimagesources", CLUSTER_WIDE}
    assert len(answers) > lists["list alternateimagesources"] >= 1


async def test_that_there_are_no_cluster_wide_sources_is_not_asked_at_every_event(
    namespace: NamespaceFixture, audit_log: AuditLog
) -> None:
    """Cluster-wide sources are listed once a minute, and no repair waits for that list."""
    await namespace.source()
    for name in ("a", "b", "c"):
        await namespace.apply(pod(name=name))
    events = [await namespace.event(failing) for failing in await namespace.failing(3)]
    mark = audit_log.mark()
    for event in events:
        await namespace.post(event)
    calls = Counter(f"{call.verb} {call.resource}" for call in audit_log.calls(mark))
    assert calls["patch pods"] == 3
    assert calls[CLUSTER_WIDE] <= 1


@pytest.fixture
async def event(namespace: NamespaceFixture) -> Manifest:
    """Give the Event of a failed pull, in a namespace with a source that lists the image."""
    await namespace.source()
    return (await namespace.fail(deployment()))[1]


@pytest.mark.parametrize("unrelated", UNRELATED.values(), ids=UNRELATED)
async def test_unrelated_events_cost_nothing(
    namespace: NamespaceFixture, audit_log: AuditLog, event: Manifest, unrelated: dict[str, Any]
) -> None:
    """An Event that is not about a failed pull is answered without a request to the API server."""
    mark = audit_log.mark()
    answer = await namespace.post(event | unrelated)
    assert (200, "ignored: ") == (answer.status, answer.text[:9])
    assert [] == audit_log.calls(mark)


async def test_a_deleted_event_costs_nothing(namespace: NamespaceFixture, audit_log: AuditLog, event: Manifest) -> None:
    """An Event is deleted an hour after its last repetition, and the deletion is not acted on."""
    mark = audit_log.mark()
    answer = await namespace.post(event, "delete")
    assert (200, "ignored: the object was deleted") == (answer.status, answer.text)
    assert [] == audit_log.calls(mark)


@pytest.mark.parametrize("change", ["add", "update", "delete"])
async def test_a_mere_reference_costs_nothing(
    namespace: NamespaceFixture, audit_log: AuditLog, event: Manifest, change: Change
) -> None:
    """An event source in Reference mode cannot work: the answer names the setting, and no request is sent."""
    mark = audit_log.mark()
    answer = await namespace.post(event, change, "Reference")
    expected = "the ApiServerSource sends references: set `mode: Resource` in its spec"
    assert (400, expected) == (answer.status, answer.text)
    assert [] == audit_log.calls(mark)
