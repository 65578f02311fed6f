"""For each kind of workload: after one Event, the right patches in order, complete records, and running pods."""

import json
from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.nodes import SimulatedNode
from testkit.api.audit_log import AuditLog, Call
from testkit.api.function_client import Answer
from testkit.api.namespace_fixture import HISTORY, PULL_REASONS, NamespaceFixture, statuses, until, waiting
from testkit.api.workloads import (
    DEAD,
    NEW,
    OLD,
    cron_job,
    daemon_set,
    deployment,
    images,
    job,
    job_of,
    pod,
    pod_spec_of,
    replica_set,
    replication_controller,
    stateful_set,
)

ONE_BY_ONE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
ON_DELETE = {"type": "OnDelete"}
TEMPLATE, POD = "template", "pod"
REVISION = "controller-revision-hash"


def with_spec(manifest: Manifest, **fields: Any) -> Manifest:
    """Return the object with these fields in its spec."""
    return {**manifest, "spec": {**manifest["spec"], **fields}}


@dataclass(frozen=True)
class Case:
    """
    A workload, how many pods it wants, what is patched in which order, and what changes once its pods fail.

    `adopts` says that the patched pod becomes one of the workload's new revision.
    """

    workload: Manifest
    pods: int
    patched: tuple[str, ...]
    later: Manifest = field(default_factory=dict)
    adopts: bool = False


CASES = {
    "Deployment": Case(deployment(replicas=2), 2, (TEMPLATE,)),
    "Deployment without surge": Case(deployment(replicas=2, strategy=ONE_BY_ONE), 2, (TEMPLATE,)),
    "Deployment that recreates": Case(deployment(replicas=2, strategy={"type": "Recreate"}), 2, (TEMPLATE,)),
    "paused Deployment": Case(deployment(), 1, (POD, TEMPLATE), {"spec": {"paused": True}}),
    "StatefulSet": Case(stateful_set(), 2, (TEMPLATE, POD), adopts=True),
    "StatefulSet, parallel": Case(with_spec(stateful_set(), podManagementPolicy="Parallel"), 2, (TEMPLATE,)),
    "StatefulSet, OnDelete": Case(with_spec(stateful_set(), updateStrategy=ON_DELETE), 2, (TEMPLATE, POD)),
    "DaemonSet": Case(daemon_set(), 1, (TEMPLATE,)),
    "DaemonSet, OnDelete": Case(with_spec(daemon_set(), updateStrategy=ON_DELETE), 1, (POD, TEMPLATE)),
    "ReplicaSet": Case(replica_set(), 2, (TEMPLATE, POD)),
    "ReplicationController": Case(replication_controller(), 2, (TEMPLATE, POD)),
    "CronJob": Case(cron_job(), 1, (TEMPLATE, POD)),
    "Job": Case(job(), 1, (POD,)),
    "Pod": Case(pod(), 1, (POD,)),
}


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """The objects before one Event about a failing pod was delivered, and what was seen right after."""

    case: Case
    namespace: NamespaceFixture
    source: Manifest
    workload: Manifest
    pod: Manifest
    event: Manifest
    answer: Answer
    patches: list[tuple[str, str]]
    log: list[dict[str, Any]]
    writes_of_second_delivery: list[Call]

    def place(self, what: str) -> Manifest:
        """Return the object that carries the template, or the pod."""
        return self.workload if what == TEMPLATE else self.pod

    @property
    def told_at(self) -> Manifest:
        """The object whose Events an operator would read."""
        return self.place(TEMPLATE if TEMPLATE in self.case.patched else POD)

    async def settled(self) -> list[Manifest]:
        """Deliver the Event of every failing pod until all pods of the workload run, or have run; return them."""
        return await until(self._all_run)

    async def _all_run(self) -> list[Manifest] | None:
        pods = await self.namespace.pods()
        for failing in pods:
            if waiting(failing) & PULL_REASONS:
                await self.namespace.post(await self.namespace.event(failing))
        running = [pod for pod in pods if all(_ran(status) for status in statuses(pod).values()) and statuses(pod)]
        return running if len(pods) == len(running) == self.case.pods else None


def _ran(status: Manifest) -> bool:
    return not status["state"].keys().isdisjoint({"running", "terminated"})


async def plural(namespace: NamespaceFixture, manifest: Manifest) -> str:
    """Return the resource name of an object, as the audit log has it."""
    return (await namespace.api.path(manifest)).split("/")[-2]


@pytest.fixture(scope="module", params=CASES)
async def repaired(
    request: pytest.FixtureRequest,
    cluster: ControlPlane,
    function: FunctionProcess,
    audit_log: AuditLog,
    node: SimulatedNode,
) -> AsyncIterator[Repaired]:
    """Give each kind in turn, after one of its pods was repaired and the same Event was delivered again."""
    case, namespace = CASES[request.param], NamespaceFixture(cluster.admin, function.url, audit_log, node.dead)
    await namespace.open()
    source = await namespace.source()
    workload = await namespace.apply(case.workload)
    if workload["kind"] == "CronJob":
        await namespace.apply(job_of(workload))
    failing, *_ = await namespace.failing()
    if case.later:
        await cluster.admin.patch(await cluster.admin.path(workload), case.later)
    event = await namespace.event(failing)
    workload, failing = await namespace.read(workload), await namespace.read(failing)
    namespace.mark()
    answer = await namespace.post(event)
    patches = namespace.patches()
    log = [line for line in function.log() if line.get("event") == f"{namespace.name}/{event['metadata']['name']}"]
    namespace.mark()
    await namespace.post(event)
    yield Repaired(
        case=case,
        namespace=namespace,
        source=source,
        workload=workload,
        pod=failing,
        event=event,
        answer=answer,
        patches=patches,
        log=log,
        writes_of_second_delivery=namespace.writes(),
    )
    await namespace.close()


async def test_the_patches_are_those_of_the_kind_in_its_order(repaired: Repaired) -> None:
    """Each kind is patched where that lets its pods pull, in the order that restarts least."""
    places = [repaired.place(what) for what in repaired.case.patched]
    expected = [(await plural(repaired.namespace, place), place["metadata"]["name"]) for place in places]
    siblings = [patch for patch in repaired.patches if patch not in expected]
    assert expected == [patch for patch in repaired.patches if patch not in siblings]
    assert {"pods"} >= {resource for resource, _ in siblings}
    assert [resource for resource, _ in expected] == list(dict.fromkeys(resource for resource, _ in repaired.patches))


async def test_the_answer_names_the_failover(repaired: Repaired) -> None:
    """The HTTP answer is 200, and its one line says what was done."""
    workload = repaired.workload
    line = f"moved web of {workload['kind']}/{workload['metadata']['name']} to {NEW}"
    assert (200, line) == (repaired.answer.status, repaired.answer.text)


async def test_nothing_but_image_and_history_changes(repaired: Repaired) -> None:
    """A patch replaces the failing image, adds the history annotation, and changes no other field of a template."""
    for what in repaired.case.patched:
        before, after = await repaired.namespace.patched(repaired.place(what))
        expected = deepcopy(before)
        (container,) = pod_spec_of(expected)["containers"]
        assert OLD == container["image"]
        container["image"] = NEW
        annotations = expected["metadata"].setdefault("annotations", {})
        for server_made in annotations.keys() & {"deprecated.daemonset.template.generation"} | {HISTORY}:
            annotations[server_made] = after["metadata"]["annotations"][server_made]
        for server_made in ("resourceVersion", "generation", "managedFields"):
            expected["metadata"][server_made] = after["metadata"][server_made]
        if what == POD and repaired.case.adopts:
            live = await repaired.namespace.read(repaired.workload)
            assert live["status"]["updateRevision"] != expected["metadata"]["labels"][REVISION]
            expected["metadata"]["labels"][REVISION] = live["status"]["updateRevision"]
        assert expected == after


async def test_the_patch_carries_the_history(repaired: Repaired) -> None:
    """The annotation of the patched object says what was replaced by what, when, and by which source."""
    for what in repaired.case.patched:
        _, after = await repaired.namespace.patched(repaired.place(what))
        history = json.loads(after["metadata"]["annotations"][HISTORY])
        reason = repaired.log[0]["plans"][0]["waiting"]
        entry: Manifest = {"container": "web", "from": OLD, "to": NEW, "source": "shop"}
        entry |= {"proof": "present", "reason": reason, "fault": "outage"}
        (written,) = history["failovers"]
        if after["kind"] == "Pod":
            workload = repaired.workload
            named = {key: workload["metadata"][key] for key in ("name", "uid")}
            entry["of"] = {"apiVersion": workload["apiVersion"], "kind": workload["kind"], **named}
            entry |= {"template": True} if (POD, TEMPLATE) == repaired.case.patched else {}
        assert {"v": 1, "failovers": [{**entry, "at": written["at"]}]} == history


async def test_the_patch_is_made_under_the_name_saffire(repaired: Repaired) -> None:
    """The patched fields belong to the field manager `saffire`, so that operators see which tool changed them."""
    for what in repaired.case.patched:
        _, after = await repaired.namespace.patched(repaired.place(what))
        managers = [entry["manager"] for entry in after["metadata"]["managedFields"]]
        assert 1 == managers.count("saffire")


async def test_the_source_shows_the_failover(repaired: Repaired) -> None:
    """The source's status lists the failover, and the container as running on an alternative."""
    status = await repaired.namespace.status()
    moment = status["lastFailoverTime"]
    group, _, version = repaired.workload["apiVersion"].rpartition("/")
    target = {
        "name": repaired.workload["metadata"]["name"],
        "namespace": repaired.namespace.name,
        "type": {"group": group, "version": version, "kind": repaired.workload["kind"]},
        "container": "web",
        "uid": repaired.workload["metadata"]["uid"],
    }
    switch = {
        "time": moment,
        "oldImage": OLD,
        "newImage": NEW,
        "target": target,
        "reason": "ErrImagePull",
        "proof": "present",
        "observed": False,
    }
    active = {"target": target, "container": "web", "from": OLD, "to": NEW, "since": moment, "proof": "present"}
    assert switch["reason"] in PULL_REASONS
    reason = status["switches"][0]["reason"]
    switch |= {"pods": [repaired.pod["metadata"]["name"]]} if (POD,) == repaired.case.patched else {}
    assert [{**switch, "reason": reason}] == status["switches"]
    assert ([active], 1) == (status["active"], status["activeCount"])
    assert reason in PULL_REASONS


async def test_an_event_tells_at_the_workload_and_at_the_source(repaired: Repaired) -> None:
    """`kubectl describe` shows the failover, at the source and at the workload, or at a pod patched alone."""
    workload = repaired.workload
    message = (
        f"moved web of {workload['kind']}/{workload['metadata']['name']} from {OLD} to {NEW}: "
        f"{DEAD} refused the connection; alternative is there; by AlternateImageSource/shop"
    )
    assert [("Failover", message)] == await repaired.namespace.saffire_events(repaired.told_at)
    assert [("Failover", message)] == await repaired.namespace.saffire_events(repaired.source)


async def test_one_structured_log_line_tells_of_the_event(repaired: Repaired) -> None:
    """The log has one line for the delivery, whose fields say what was decided and done."""
    (line,) = repaired.log
    (plan,) = line["plans"]
    workload = repaired.workload
    expected = {
        "plan": "Failover",
        "workload": f"{workload['kind']}/{workload['metadata']['name']}",
        "container": "web",
        "image": OLD,
        "candidate": NEW,
        "source": "shop",
        "mode": "Enforce",
        "steps": ", ".join("template" if what == TEMPLATE else "pods" for what in repaired.case.patched),
    }
    assert expected == {key: plan.get(key) for key in expected}
    assert ("Answered an event", "INFO", 200) == (line["message"], line["severity"], line["status"])
    assert f"{repaired.namespace.name}/{repaired.pod['metadata']['name']}" == line["pod"]


async def test_the_same_event_at_once_writes_nothing(repaired: Repaired) -> None:
    """A second delivery right after the first writes nothing."""
    assert [] == repaired.writes_of_second_delivery


async def test_every_pod_comes_back_on_the_alternative(repaired: Repaired) -> None:
    """After the Event of each failing pod, all wanted pods run the alternative, and none has the old image."""
    pods = await repaired.settled()
    assert [{"web": NEW}] * repaired.case.pods == [images(pod["spec"]) for pod in pods]


async def test_an_adopted_pod_is_not_made_again(repaired: Repaired) -> None:
    """The rollout is complete, and the pod that was stuck is still the same."""
    if not repaired.case.adopts:
        return

    async def rolled_out() -> Manifest | None:
        live = await repaired.namespace.read(repaired.workload)
        status, wanted = live["status"], live["spec"]["replicas"]
        is_done = wanted == status.get("updatedReplicas") == status.get("readyReplicas")
        return live if is_done and status["currentRevision"] == status["updateRevision"] else None

    pods = await repaired.settled()
    live = await until(rolled_out)
    assert repaired.pod["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in pods}
    assert {live["status"]["updateRevision"]} == {pod["metadata"]["labels"][REVISION] for pod in pods}
    after = await repaired.namespace.pods()
    assert {pod["metadata"]["uid"] for pod in pods} == {pod["metadata"]["uid"] for pod in after}


async def test_the_same_event_later_changes_nothing(repaired: Repaired) -> None:
    """If all pods run, the same Event changes no resource version of workload, pods and source."""

    async def versions() -> dict[str, str]:
        objects = [await repaired.namespace.read(repaired.workload), await repaired.namespace.read(repaired.source)]
        objects += await repaired.namespace.pods()
        return {manifest["metadata"]["uid"]: manifest["metadata"]["resourceVersion"] for manifest in objects}

    async def unchanged() -> bool:
        before = await versions()
        answer = await repaired.namespace.post(repaired.event)
        assert 200 == answer.status
        return before == await versions()

    await repaired.settled()
    repaired.namespace.mark()
    # Controllers may still write; if the function wrote at every delivery, this would never end.
    await until(unchanged)
    assert [] == repaired.namespace.writes()
