"""The plugin on a real control plane: it only reads, and a drill tells what the function does once a registry dies."""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Api, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from testkit import ROOT
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import NAMESPACE, may_list, rule_for
from testkit.api.namespace_fixture import IGNORE, NamespaceFixture, statuses, until
from testkit.api.workloads import (
    ALIVE,
    container,
    cron_job,
    daemon_set,
    deployment,
    job_of,
    pod,
    pod_spec,
    replica_set,
    replication_controller,
    stateful_set,
)

READER = "drill-reader"
SECONDS = 60
ONE_BY_ONE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
ON_DELETE = {"type": "OnDelete"}
ON_THE_NODE = {"nodeSelector": {"kubernetes.io/hostname": "api"}}


@dataclass(frozen=True, slots=True)
class Reader:
    """A user who may read everything and write nothing: the kubeconfig, and the log of the requests."""

    kubeconfig: Path
    audit_log: AuditLog
    environ: Mapping[str, str] = field(default_factory=dict)

    async def type(self, *arguments: str) -> tuple[int, str, str]:
        """Run the plugin as kubectl does; return its exit status, and what it wrote to both outputs."""
        command = (sys.executable, "-m", "kubectl_saffire", *arguments)
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**self.environ, "KUBECONFIG": str(self.kubeconfig)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def drill(self, *arguments: str) -> dict[str, Any]:
        """Return what a drill says, as JSON."""
        status, out, err = await self.type("drill", "-o", "json", *arguments)
        assert status in {0, 1}, err
        said: dict[str, Any] = json.loads(out)
        assert status == bool(said["hangs"])
        return said


@pytest.fixture(scope="module")
async def reader(cluster: ControlPlane, environ: dict[str, str]) -> Reader:
    """Give a user who may only read."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": READER}}
    subject = {"kind": "ServiceAccount", "name": READER, "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": READER}
    for made in (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER, "namespace": NAMESPACE}},
        {**rbac, "kind": "ClusterRole", "rules": [rule_for("*", "*", "get", "list")]},
        {**rbac, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]},
    ):
        await cluster.admin.apply(made)
    user = f"system:serviceaccount:{NAMESPACE}:{READER}"
    async with Api(cluster.server, str(cluster.authority), cluster.admin.token, user=user) as api:
        await until(lambda: may_list(api))
    return Reader(await cluster.kubeconfig_for(NAMESPACE, READER), AuditLog(cluster.audit, user), environ)


@pytest.fixture
async def registry(namespace: NamespaceFixture) -> AsyncIterator[str]:
    """Give the domain of a registry that works until the test makes it fail."""
    domain = f"{namespace.name}.example"
    yield domain
    namespace.dead.discard(domain)


def named(manifest: Manifest, name: str, registry: str, *, path: str = "acme", **spec: Any) -> Manifest:
    """Return a workload of this name, which is also that of its container, of its image and of its pods' label."""
    labels = {"app": name}
    pods = pod_spec(container(name, f"{registry}/{path}/{name}:v1", imagePullPolicy="Always"), **ON_THE_NODE)
    wanted = {**manifest["spec"], **spec}
    match manifest["kind"]:
        case "Pod":
            metadata = {"name": name, "labels": labels}
            return {**manifest, "metadata": metadata, "spec": {**pods, **spec}}
        case "CronJob":
            template = {"metadata": {"labels": labels}, "spec": {**pods, "restartPolicy": "Never"}}
            wanted["jobTemplate"] = {"spec": {"template": template}}
        case kind:
            wanted["template"] = {"metadata": {"labels": labels}, "spec": pods}
            wanted["selector"] = labels if kind == "ReplicationController" else {"matchLabels": labels}
    return {**manifest, "metadata": {"name": name}, "spec": wanted}


def movable(registry: str) -> list[Manifest]:
    """Return a workload of each kind, and of each strategy, that Saffire can move."""
    return [
        named(deployment(), "rolling", registry, replicas=2),
        named(deployment(), "one-by-one", registry, replicas=2, strategy=ONE_BY_ONE),
        named(deployment(), "recreate", registry, replicas=2, strategy={"type": "Recreate"}),
        named(stateful_set(), "ordered", registry),
        named(stateful_set(), "parallel", registry, podManagementPolicy="Parallel"),
        named(stateful_set(), "on-delete", registry, updateStrategy=ON_DELETE),
        named(daemon_set(), "each-node", registry),
        named(daemon_set(), "each-node-on-delete", registry, updateStrategy=ON_DELETE),
        named(replica_set(), "replicas", registry),
        named(replication_controller(), "controlled", registry),
        named(cron_job(), "report", registry),
    ]


def left(registry: str) -> list[Manifest]:
    """Return workloads that Saffire leaves alone, each for another reason, which is its name."""
    opted_out = named(deployment(), "opted-out", registry)
    opted_out["metadata"] = {**opted_out["metadata"], "annotations": {IGNORE: "true"}}
    return [
        named(deployment(), "not-listed", registry, path="else"),
        named(deployment(), "paused", registry, path="paused"),
        named(deployment(), "observed", registry, path="observed"),
        opted_out,
    ]


async def declare(namespace: NamespaceFixture, registry: str) -> None:
    """Create a source for the workloads that Saffire can move, and one for each mode in which it moves none."""
    await namespace.source(f"{registry}/acme/*", f"{ALIVE}/acme/*")
    for mode in ("Paused", "Observe"):
        path = "paused" if mode == "Paused" else "observed"
        await namespace.source(f"{registry}/{path}/*", f"{ALIVE}/{path}/*", name=path, mode=mode)


async def all_run(namespace: NamespaceFixture, count: int) -> bool:
    """Tell whether so many pods run, and their workloads know it."""
    pods = await namespace.pods()
    ready = [made for made in pods if all(entry.get("ready") for entry in statuses(made).values()) and statuses(made)]
    return len(ready) == len(pods) == count


def plans_of(function: FunctionProcess, namespace: str) -> list[dict[str, str]]:
    """Return the plans for workloads of a namespace that the function has logged."""
    lines = [line for line in function.log() if line.get("namespace") == namespace]
    return [plan for line in lines for plan in line.get("plans", ())]


async def test_a_drill_tells_what_the_function_then_does(
    namespace: NamespaceFixture, registry: str, reader: Reader, function: FunctionProcess
) -> None:
    """Workload by workload: what moves, to which image, by which patches; what hangs, and for which reason."""
    await declare(namespace, registry)
    workloads = [*movable(registry), *left(registry)]
    for workload in workloads:
        await namespace.apply(workload)
    replicas = {"each-node": 1, "each-node-on-delete": 1, "report": 0}
    count = sum(
        replicas.get(workload["metadata"]["name"], workload["spec"].get("replicas", 1)) for workload in workloads
    )
    await until(lambda: all_run(namespace, count))

    said = await reader.drill(registry, "-n", namespace.name)

    moves = {entry["container"]: (entry["workload"], entry["to"], set(entry["strategy"])) for entry in said["moves"]}
    hangs = {entry["container"]: entry["reason"] for entry in said["hangs"]}
    assert {workload["metadata"]["name"] for workload in movable(registry)} == moves.keys()
    expected = {"not-listed": "RepositoryNotListed", "paused": "Paused", "observed": "Observed", "opted-out": "OptedOut"}
    assert expected == hangs

    namespace.dead.add(registry)
    # A pod of each workload has to start anew, as after the loss of a node; the others stay ready.
    apps: set[str] = set()
    for running in await namespace.pods():
        app = running["metadata"]["labels"]["app"]
        if app not in apps:
            apps.add(app)
            await namespace.api.delete(await namespace.api.path(running))
            await namespace.until_gone(running)
    await namespace.apply(job_of(await namespace.read(cron_job() | {"metadata": {"name": "report"}})))
    for workload in workloads:
        await namespace.failing(of=workload["metadata"]["name"])

    async def settled() -> bool:
        """Sweep until Saffire has done all that it does; tell whether that is so."""
        await namespace.sweep()
        active = {entry["container"] for entry in (await namespace.status()).get("active", ())}
        return active == moves.keys()

    await until(settled)
    plans = plans_of(function, namespace.name)
    done: defaultdict[str, set[str]] = defaultdict(set)
    images: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    reasons: dict[str, str] = {}
    for plan in plans:
        name = plan["container"]
        if plan["plan"] == "Leave":
            reasons[name] = plan["reason"]
        elif plan.get("mode") == "Observe":
            reasons[name] = "Observed"
        else:
            done[name] |= set(plan["steps"].split(", "))
            images[name].add((plan["workload"], plan["candidate"]))
    assert hangs == {name: reasons.get(name) for name in hangs}
    assert {name: {(workload, to)} for name, (workload, to, _) in moves.items()} == images
    assert {name: strategy for name, (_, _, strategy) in moves.items()} == done


async def test_every_command_only_reads(namespace: NamespaceFixture, registry: str, reader: Reader) -> None:
    """The API server's own audit log has no other verb of this user than get and list."""
    await declare(namespace, registry)
    await namespace.apply(named(deployment(), "web", registry, replicas=2))
    await until(lambda: all_run(namespace, 2))
    mark = reader.audit_log.mark()
    for arguments in (("drill", registry), ("drill", registry, "--ask"), ("why", "deployment/web"), ("status",)):
        status, out, err = await reader.type(*arguments, "-n", namespace.name)
        assert 0 == status, err
        assert max(map(len, out.splitlines())) <= 80
        assert "\x1b" not in out
    calls = reader.audit_log.calls(mark)
    assert {"get", "list"} >= {call.verb for call in calls}
    assert {"pods", "deployments", "replicasets"} <= {call.resource for call in calls}
    assert {200} == {call.status for call in calls if call.verb == "list"}


async def test_registries_are_asked_on_request(namespace: NamespaceFixture, registry: str, reader: Reader) -> None:
    """The proof is that of the function: the alternative has the digest that runs."""
    await declare(namespace, registry)
    await namespace.apply(named(pod(), "web", registry))
    await until(lambda: all_run(namespace, 1))
    assert ["not asked"] == [entry["proof"] for entry in (await reader.drill(registry))["moves"]]
    said = await reader.drill(registry, "--ask", "-n", namespace.name)
    assert ["equal digest"] == [entry["proof"] for entry in said["moves"]]


async def test_why_tells_of_a_pull_that_fails_now(namespace: NamespaceFixture, registry: str, reader: Reader) -> None:
    """In the words of the kubelet, with the decision and the next step."""
    await declare(namespace, registry)
    namespace.dead.add(registry)
    await namespace.apply(named(deployment(), "web", registry, path="else"))
    await namespace.failing()
    status, out, _ = await reader.type("why", "deployment/web", "-n", namespace.name)
    assert 1 == status
    assert "RepositoryNotListed" in out
    assert "connection refused" in " ".join(out.split())
    status, out, _ = await reader.type("status", "-n", namespace.name)
    assert 0 == status
    assert "1 container hangs" in out
