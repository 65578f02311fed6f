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
ON_THE_NODE: dict[str, Any] = {"nodeSelector": {"kubernetes.io/hostname": "api"}}


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


async def are_ready(namespace: NamespaceFixture, workloads: list[Manifest]) -> bool:
    """Tell whether all pods of the workloads run, and the workloads know it."""
    for workload in workloads:
        live = await namespace.read(workload)
        numbers: tuple[Any, Any]
        match workload["kind"]:
            case "CronJob":
                continue
            case "Pod":
                numbers = live["status"].get("phase"), "Running"
            case "DaemonSet":
                numbers = live["status"].get("numberReady", 0), 1
            case _:
                numbers = live["status"].get("readyReplicas", 0), workload["spec"].get("replicas", 1)
        if numbers[0] != numbers[1]:
            return False
    return all(statuses(made) for made in await namespace.pods())


@dataclass(frozen=True, slots=True)
class Done:
    """What the function has done for each container of a namespace, by its log: its patches, and where it went."""

    steps: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    places: defaultdict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def by(cls, function: FunctionProcess, namespace: str) -> "Done":
        """Read it from the log."""
        done = cls()
        lines = [line for line in function.log() if line.get("namespace") == namespace]
        for plan in (plan for line in lines for plan in line.get("plans", ())):
            if plan["plan"] == "Failover" and plan["mode"] == "Enforce" and plan.get("steps"):
                done.steps[plan["container"]] |= set(plan["steps"].split(", "))
                done.places[plan["container"]].add((plan["workload"], plan["candidate"]))
        return done


async def lose_pods(namespace: NamespaceFixture) -> None:
    """Delete one pod of each workload, as with the loss of a node; the others stay ready."""
    first = {running["metadata"]["labels"]["app"]: running for running in reversed(await namespace.pods())}
    for running in first.values():
        await namespace.api.delete(await namespace.api.path(running))
    for running in first.values():
        await namespace.until_gone(running)


async def test_a_drill_tells_what_the_function_then_does(
    namespace: NamespaceFixture, registry: str, reader: Reader, function: FunctionProcess
) -> None:
    """Workload by workload: what moves, to which image, by which patches; what hangs, and for which reason."""
    await declare(namespace, registry)
    workloads = [*movable(registry), *left(registry)]
    for workload in workloads:
        await namespace.apply(workload)
    await until(lambda: are_ready(namespace, workloads))

    said = await reader.drill(registry, "-n", namespace.name)

    moves = {entry["container"]: entry for entry in said["moves"]}
    hangs = {entry["container"]: entry["reason"] for entry in said["hangs"]}
    assert {workload["metadata"]["name"] for workload in movable(registry)} == moves.keys()
    assert {workload["metadata"]["name"] for workload in left(registry)} == hangs.keys()

    namespace.dead.add(registry)
    await lose_pods(namespace)
    await namespace.apply(job_of(await namespace.read(cron_job() | {"metadata": {"name": "report"}})))
    for workload in workloads:
        await namespace.failing(of=workload["metadata"]["name"])
    strategies = {name: set(entry["strategy"]) for name, entry in moves.items()}

    async def settled() -> bool:
        """Sweep, and tell whether Saffire has moved all that it moves, and done all that was foretold."""
        await namespace.sweep()
        active = {entry["container"] for entry in (await namespace.status()).get("active", ())}
        steps = Done.by(function, namespace.name).steps
        return active == moves.keys() and all(steps[name] >= strategy for name, strategy in strategies.items())

    await until(settled)
    done = Done.by(function, namespace.name)
    assert strategies == done.steps
    assert {name: {(entry["workload"], entry["to"])} for name, entry in moves.items()} == done.places
    for name, reason in hangs.items():
        failing, *_ = await namespace.failing(of=name)
        answer = await namespace.post(await namespace.event(failing))
        left_alone = f"left {name} with {failing['spec']['containers'][0]['image']}: {reason}: "
        observed = f"would move {name} of Deployment/{name} to "
        assert answer.text.startswith(observed if reason == "Observed" else left_alone), answer.text


async def test_every_command_only_reads(namespace: NamespaceFixture, registry: str, reader: Reader) -> None:
    """The API server's own audit log has no other verb of this user than get and list."""
    await declare(namespace, registry)
    web = await namespace.apply(named(deployment(), "web", registry, replicas=2))
    await until(lambda: are_ready(namespace, [web]))
    mark = reader.audit_log.mark()
    for arguments in (("drill", registry), ("drill", registry, "--ask"), ("why", "deployment/web"), ("status",)):
        status, out, err = await reader.type(*arguments, "-n", namespace.name)
        assert 0 == status, err
        assert max(map(len, out.splitlines())) <= 80
        assert "\x1b" not in out
    calls = reader.audit_log.calls(mark)
    assert {"get", "list"} >= {call.verb for call in calls}
    assert {"pods", "deployments", "replicasets"} <= {call.resource for call in calls}
    assert [] == [call for call in calls if call.verb == "list" and call.status != 200]


async def test_registries_are_asked_on_request(namespace: NamespaceFixture, registry: str, reader: Reader) -> None:
    """The proof is that of the function: the alternative has the digest that runs."""
    await declare(namespace, registry)
    web = await namespace.apply(named(pod(), "web", registry))
    await until(lambda: are_ready(namespace, [web]))
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
