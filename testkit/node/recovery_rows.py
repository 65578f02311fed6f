"""
The rows of the recovery tests: what fails when a registry fails, and what each row needs to have recovered.

They are data, so that the same rows are tested, and measured beside a baseline.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from playground.cluster.api import Manifest
from testkit.api.workloads import (
    container,
    cron_job,
    daemon_set,
    deployment,
    job,
    pod,
    pod_spec,
    replica_set,
    replication_controller,
    stateful_set,
)
from testkit.node.registry_fixture import Repositories

Step = Literal["template", "pods", "adopt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    A workload, and what happens to it.

    Args:
        build: returns the workload as it is created.
        steps: what settles it first: a patch of its template, of its stuck pods, or both, in order. With `adopt`, the
            patch of a pod also makes it one of the new revision.
        made: the most pods that there may be from first to last, the stuck ones among them.
        pods: how many pods have to be ready, or to have succeeded.
        healthy: how many of these may keep the image they had.
        ends: whether it has recovered when it is complete, as a Job.
        change: the merge patch after which it needs an image that cannot be pulled; it is sent once all pods run.
        dies: whether its registry works until that change.
        meanwhile: the merge patch that follows as soon as the change has created a pod.
        status: the merge patch of its status right after its creation.
        source: fields of the source's spec.

    """

    build: Callable[[Repositories], Manifest]
    steps: tuple[Step, ...]
    made: int = 1
    pods: int = 1
    healthy: int = 0
    ends: bool = False
    change: Callable[[Repositories], Manifest] | None = None
    dies: bool = False
    meanwhile: Manifest = field(default_factory=dict)
    status: Callable[[], Manifest] | None = None
    source: Manifest = field(default_factory=dict)


TEMPLATE: tuple[Step, ...] = ("template",)
PODS: tuple[Step, ...] = ("pods",)
TEMPLATE_PODS: tuple[Step, ...] = ("template", "pods")
PODS_TEMPLATE: tuple[Step, ...] = ("pods", "template")
ADOPT: tuple[Step, ...] = ("template", "adopt")

_ON_DELETE = {"type": "OnDelete"}
_FORBID = {"schedule": "* * * * *", "concurrencyPolicy": "Forbid"}


def _with(manifest: Manifest, **fields: Any) -> Manifest:
    return manifest | {"spec": manifest["spec"] | fields}


def _strategy(surge: int) -> Manifest:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge}}


def _with_init(repositories: Repositories, **fields: Any) -> Manifest:
    init = {**container("init", repositories.dead("ends")), **fields}
    return pod_spec(container(image=repositories.alive()), init=[init])


def _beside(repositories: Repositories, *others: Manifest) -> Manifest:
    return pod_spec(container(image=repositories.dead()), *others)


def _always(repositories: Repositories) -> Manifest:
    return pod_spec(container(image=repositories.dead(), imagePullPolicy="Always"))


def _earlier(repositories: Repositories) -> Manifest:
    return pod_spec(container(image=repositories.earlier))


def _next(repositories: Repositories) -> Manifest:
    """Return the merge patch that rolls out an image that cannot be pulled."""
    return {"spec": {"template": {"spec": {"containers": repositories.spec()["containers"]}}}}


def _fails_once(repositories: Repositories) -> Manifest:
    """Return the spec of a pod that fails the first time and succeeds after that."""
    command = ["/bin/sh", "-c", "/bin/busybox mkdir /state/once && exit 1; exit 0"]
    mounts = [{"name": "state", "mountPath": "/state"}]
    state = {"name": "state", "hostPath": {"path": f"/run/{repositories.name}", "type": "DirectoryOrCreate"}}
    return pod_spec(container(image=repositories.dead(), command=command, volumeMounts=mounts), volumes=[state])


def _restarting(repositories: Repositories) -> Manifest:
    """Return a Job whose kubelet restarts the containers."""
    return _with(job(), template={"spec": {**repositories.spec("ends"), "restartPolicy": "OnFailure"}})


def _overdue() -> Manifest:
    """Return the status of a CronJob that missed its last run."""
    missed = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"status": {"lastScheduleTime": missed}}


def _scaled(replicas: int) -> Callable[[Repositories], Manifest]:
    return lambda _: {"spec": {"replicas": replicas}}


SERVICES = {
    "Deployment": Row(
        build=lambda repositories: deployment(repositories.spec(), replicas=2), steps=TEMPLATE, made=4, pods=2
    ),
    "Deployment, maxSurge 0": Row(
        build=lambda repositories: deployment(repositories.spec(), replicas=2, strategy=_strategy(0)),
        steps=TEMPLATE,
        made=4,
        pods=2,
    ),
    "Deployment, Recreate": Row(
        build=lambda repositories: deployment(repositories.spec(), replicas=2, strategy={"type": "Recreate"}),
        steps=TEMPLATE,
        made=4,
        pods=2,
    ),
    "Deployment, Recreate, running when its registry dies": Row(
        build=lambda repositories: deployment(_always(repositories), replicas=2, strategy={"type": "Recreate"}),
        steps=PODS,
        made=3,
        pods=3,
        healthy=2,
        dies=True,
        change=_scaled(3),
    ),
    "Deployment, in a rollout": Row(
        build=lambda repositories: deployment(_earlier(repositories), replicas=3, strategy=_strategy(1)),
        steps=TEMPLATE,
        made=7,
        pods=3,
        change=_next,
    ),
    "Deployment, paused in a rollout": Row(
        build=lambda repositories: deployment(_earlier(repositories), replicas=2, strategy=_strategy(1)),
        steps=PODS_TEMPLATE,
        made=3,
        pods=3,
        healthy=2,
        change=_next,
        meanwhile={"spec": {"paused": True}},
    ),
    "Deployment, imagePullPolicy Always": Row(
        build=lambda repositories: deployment(_always(repositories), replicas=2), steps=TEMPLATE, made=4, pods=2
    ),
    "Deployment, init container": Row(
        build=lambda repositories: deployment(_with_init(repositories), replicas=2), steps=TEMPLATE, made=4, pods=2
    ),
    "Deployment, image by digest": Row(
        build=lambda repositories: deployment(pod_spec(container(image=repositories.by_digest()))),
        steps=TEMPLATE,
        made=2,
    ),
    "Deployment, image by tag and digest": Row(
        build=lambda repositories: deployment(pod_spec(container(image=repositories.by_digest("v1")))),
        steps=TEMPLATE,
        made=2,
    ),
    "Deployment, image without tag": Row(
        build=lambda repositories: deployment(pod_spec(container(image=f"{repositories.old}/sleeps"))),
        steps=TEMPLATE,
        made=2,
    ),
    "Deployment, running when its registry dies": Row(
        build=lambda repositories: deployment(_always(repositories), replicas=2),
        steps=TEMPLATE,
        made=6,
        pods=3,
        dies=True,
        change=_scaled(3),
    ),
    "ReplicaSet": Row(build=lambda repositories: replica_set(repositories.spec()), steps=TEMPLATE_PODS, made=2, pods=2),
    "ReplicationController": Row(
        build=lambda repositories: replication_controller(repositories.spec()), steps=TEMPLATE_PODS, made=2, pods=2
    ),
    "StatefulSet": Row(build=lambda repositories: stateful_set(repositories.spec()), steps=ADOPT, made=2, pods=2),
    "StatefulSet, running when its registry dies": Row(
        build=lambda repositories: stateful_set(_always(repositories)),
        steps=ADOPT,
        made=5,
        pods=3,
        dies=True,
        change=_scaled(3),
    ),
    "StatefulSet, Parallel": Row(
        build=lambda repositories: _with(stateful_set(repositories.spec()), podManagementPolicy="Parallel"),
        steps=TEMPLATE,
        made=4,
        pods=2,
    ),
    "StatefulSet, OnDelete": Row(
        build=lambda repositories: _with(stateful_set(repositories.spec()), updateStrategy=_ON_DELETE),
        steps=TEMPLATE_PODS,
        made=2,
        pods=2,
    ),
    "StatefulSet, partition": Row(
        build=lambda repositories: _with(
            stateful_set(repositories.spec()),
            updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
        ),
        steps=TEMPLATE_PODS,
        made=2,
        pods=2,
    ),
    "DaemonSet": Row(build=lambda repositories: daemon_set(repositories.spec()), steps=TEMPLATE, made=2),
    "DaemonSet, OnDelete": Row(
        build=lambda repositories: _with(daemon_set(repositories.spec()), updateStrategy=_ON_DELETE),
        steps=PODS_TEMPLATE,
    ),
    "DaemonSet, init container": Row(
        build=lambda repositories: daemon_set(_with_init(repositories)), steps=TEMPLATE, made=2
    ),
    "Pod": Row(build=lambda repositories: pod(repositories.spec()), steps=PODS),
    "Pod, beside a healthy container": Row(
        build=lambda repositories: pod(_beside(repositories, container("healthy", repositories.alive()))), steps=PODS
    ),
    "Pod, two failing containers": Row(
        build=lambda repositories: pod(_beside(repositories, container("other", repositories.other))), steps=PODS
    ),
    "Pod, sidecar": Row(
        build=lambda repositories: pod(
            pod_spec(
                container(image=repositories.alive()),
                init=[container("side", repositories.dead(), restartPolicy="Always")],
            )
        ),
        steps=PODS,
    ),
    "strategy: Pods, 5 of 55": Row(
        build=lambda repositories: deployment(_always(repositories), replicas=50),
        steps=PODS,
        made=55,
        pods=55,
        healthy=50,
        dies=True,
        change=_scaled(55),
        source={"strategy": "Pods"},
    ),
    "strategy: Controller, 5 of 55": Row(
        build=lambda repositories: deployment(_always(repositories), replicas=50),
        steps=TEMPLATE,
        made=110,
        pods=55,
        dies=True,
        change=_scaled(55),
    ),
}
"""Workloads that run until they are deleted."""

JOBS = {
    "Job": Row(build=lambda repositories: job(repositories.spec("ends")), steps=PODS, ends=True),
    "Job, parallel": Row(
        build=lambda repositories: _with(job(repositories.spec("ends")), parallelism=2, completions=2),
        steps=PODS,
        made=2,
        pods=2,
        ends=True,
    ),
    "Job, Indexed": Row(
        build=lambda repositories: _with(
            job(repositories.spec("ends")), parallelism=1, completions=3, completionMode="Indexed"
        ),
        steps=PODS,
        made=3,
        pods=3,
        ends=True,
    ),
    "Job, retried with the old image": Row(
        build=lambda repositories: job(_fails_once(repositories)), steps=PODS, made=2, ends=True
    ),
    "Job, restartPolicy OnFailure": Row(build=_restarting, steps=PODS, ends=True),
    "CronJob, Forbid": Row(
        build=lambda repositories: _with(cron_job(repositories.spec("ends")), **_FORBID),
        steps=TEMPLATE_PODS,
        made=2,
        ends=True,
        status=_overdue,
    ),
}
"""Workloads that run to completion."""

ROWS = SERVICES | JOBS
