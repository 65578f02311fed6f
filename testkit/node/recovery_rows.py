"""
The rows of this tier: what hangs when a registry is dead, and what each row wants to have again.

They are data, so that the same rows are tested, and measured beside patches that are sent by hand.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from playground.api import Manifest
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
from testkit.node.registry_fixture import Shop

Step = Literal["template", "pods"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    A workload, and what becomes of it.

    Args:
        build: the workload as it is created.
        steps: what frees it: its template, its stuck pods in place, or both, in order.
        pods: how many it wants to be ready, or to have done their work.
        healthy: how many of these may go on with the image they had.
        ends: whether it is back when it is complete, as a Job is.
        change: the merge patch that makes it need an image it cannot pull, once all that it wanted until then runs.
        dies: whether its registry lives until that change.
        meanwhile: the merge patch that follows as soon as the change has made a pod.
        status: the merge patch of its status right after it is created.
        source: fields of the source's spec.

    """

    build: Callable[[Shop], Manifest]
    steps: tuple[Step, ...]
    pods: int = 1
    healthy: int = 0
    ends: bool = False
    change: Callable[[Shop], Manifest] | None = None
    dies: bool = False
    meanwhile: Manifest = field(default_factory=dict)
    status: Callable[[], Manifest] | None = None
    source: Manifest = field(default_factory=dict)


TEMPLATE: tuple[Step, ...] = ("template",)
PODS: tuple[Step, ...] = ("pods",)
TEMPLATE_PODS: tuple[Step, ...] = ("template", "pods")
PODS_TEMPLATE: tuple[Step, ...] = ("pods", "template")

_ON_DELETE = {"type": "OnDelete"}
_FORBID = {"schedule": "* * * * *", "concurrencyPolicy": "Forbid"}


def _with(manifest: Manifest, **fields: Any) -> Manifest:
    return manifest | {"spec": manifest["spec"] | fields}


def _strategy(surge: int) -> Manifest:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge}}


def _with_init(shop: Shop, **fields: Any) -> Manifest:
    init = {**container("init", shop.dead("ends")), **fields}
    return pod_spec(container(image=shop.alive()), init=[init])


def _beside(shop: Shop, *others: Manifest) -> Manifest:
    return pod_spec(container(image=shop.dead()), *others)


def _always(shop: Shop) -> Manifest:
    return pod_spec(container(image=shop.dead(), imagePullPolicy="Always"))


def _earlier(shop: Shop) -> Manifest:
    return pod_spec(container(image=shop.earlier))


def _next(shop: Shop) -> Manifest:
    """Return the merge patch that rolls out an image that cannot be pulled."""
    return {"spec": {"template": {"spec": {"containers": shop.spec()["containers"]}}}}


def _fails_once(shop: Shop) -> Manifest:
    """Return the spec of a pod that fails, and has done its work if it is not the first one."""
    command = ["/bin/sh", "-c", "/bin/busybox mkdir /state/once && exit 1; exit 0"]
    mounts = [{"name": "state", "mountPath": "/state"}]
    state = {"name": "state", "hostPath": {"path": f"/run/{shop.name}", "type": "DirectoryOrCreate"}}
    return pod_spec(container(image=shop.dead(), command=command, volumeMounts=mounts), volumes=[state])


def _restarting(shop: Shop) -> Manifest:
    """Return a Job whose pods restart their containers themselves."""
    return _with(job(), template={"spec": {**shop.spec("ends"), "restartPolicy": "OnFailure"}})


def _overdue() -> Manifest:
    """Return the status of a CronJob that missed its last run."""
    missed = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"status": {"lastScheduleTime": missed}}


def _scaled(replicas: int) -> Callable[[Shop], Manifest]:
    return lambda _: {"spec": {"replicas": replicas}}


SERVICES = {
    "Deployment": Row(build=lambda shop: deployment(shop.spec(), replicas=2), steps=TEMPLATE, pods=2),
    "Deployment, maxSurge 0": Row(
        build=lambda shop: deployment(shop.spec(), replicas=2, strategy=_strategy(0)), steps=PODS_TEMPLATE, pods=2
    ),
    "Deployment, Recreate": Row(
        build=lambda shop: deployment(shop.spec(), replicas=2, strategy={"type": "Recreate"}),
        steps=PODS_TEMPLATE,
        pods=2,
    ),
    "Deployment, in a rollout": Row(
        build=lambda shop: deployment(_earlier(shop), replicas=3, strategy=_strategy(1)),
        steps=TEMPLATE,
        pods=3,
        change=_next,
    ),
    "Deployment, paused in a rollout": Row(
        build=lambda shop: deployment(_earlier(shop), replicas=2, strategy=_strategy(1)),
        steps=PODS_TEMPLATE,
        pods=3,
        healthy=2,
        change=_next,
        meanwhile={"spec": {"paused": True}},
    ),
    "Deployment, imagePullPolicy Always": Row(
        build=lambda shop: deployment(_always(shop), replicas=2), steps=TEMPLATE, pods=2
    ),
    "Deployment, init container": Row(
        build=lambda shop: deployment(_with_init(shop), replicas=2), steps=TEMPLATE, pods=2
    ),
    "Deployment, image by digest": Row(
        build=lambda shop: deployment(pod_spec(container(image=shop.by_digest()))), steps=TEMPLATE
    ),
    "Deployment, image by tag and digest": Row(
        build=lambda shop: deployment(pod_spec(container(image=shop.by_digest("v1")))), steps=TEMPLATE
    ),
    "Deployment, image without tag": Row(
        build=lambda shop: deployment(pod_spec(container(image=f"{shop.old}/sleeps"))), steps=TEMPLATE
    ),
    "Deployment, running when its registry dies": Row(
        build=lambda shop: deployment(_always(shop), replicas=2), steps=TEMPLATE, pods=3, dies=True, change=_scaled(3)
    ),
    "ReplicaSet": Row(build=lambda shop: replica_set(shop.spec()), steps=TEMPLATE_PODS, pods=2),
    "ReplicationController": Row(build=lambda shop: replication_controller(shop.spec()), steps=TEMPLATE_PODS, pods=2),
    "StatefulSet": Row(build=lambda shop: stateful_set(shop.spec()), steps=TEMPLATE_PODS, pods=2),
    "StatefulSet, Parallel": Row(
        build=lambda shop: _with(stateful_set(shop.spec()), podManagementPolicy="Parallel"),
        steps=TEMPLATE_PODS,
        pods=2,
    ),
    "StatefulSet, OnDelete": Row(
        build=lambda shop: _with(stateful_set(shop.spec()), updateStrategy=_ON_DELETE), steps=TEMPLATE_PODS, pods=2
    ),
    "StatefulSet, partition": Row(
        build=lambda shop: _with(
            stateful_set(shop.spec()), updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        ),
        steps=TEMPLATE_PODS,
        pods=2,
    ),
    "DaemonSet": Row(build=lambda shop: daemon_set(shop.spec()), steps=PODS_TEMPLATE),
    "DaemonSet, OnDelete": Row(
        build=lambda shop: _with(daemon_set(shop.spec()), updateStrategy=_ON_DELETE), steps=PODS_TEMPLATE
    ),
    "DaemonSet, init container": Row(build=lambda shop: daemon_set(_with_init(shop)), steps=PODS_TEMPLATE),
    "Pod": Row(build=lambda shop: pod(shop.spec()), steps=PODS),
    "Pod, beside a healthy container": Row(
        build=lambda shop: pod(_beside(shop, container("healthy", shop.alive()))), steps=PODS
    ),
    "Pod, two failing containers": Row(
        build=lambda shop: pod(_beside(shop, container("other", shop.other))), steps=PODS
    ),
    "Pod, sidecar": Row(
        build=lambda shop: pod(
            pod_spec(container(image=shop.alive()), init=[container("side", shop.dead(), restartPolicy="Always")])
        ),
        steps=PODS,
    ),
    "strategy: Pods, 5 of 55": Row(
        build=lambda shop: deployment(_always(shop), replicas=50),
        steps=PODS,
        pods=55,
        healthy=50,
        dies=True,
        change=_scaled(55),
        source={"strategy": "Pods"},
    ),
    "strategy: Controller, 5 of 55": Row(
        build=lambda shop: deployment(_always(shop), replicas=50),
        steps=TEMPLATE,
        pods=55,
        dies=True,
        change=_scaled(55),
    ),
}
"""What runs for good."""

JOBS = {
    "Job": Row(build=lambda shop: job(shop.spec("ends")), steps=PODS, ends=True),
    "Job, parallel": Row(
        build=lambda shop: _with(job(shop.spec("ends")), parallelism=2, completions=2), steps=PODS, pods=2, ends=True
    ),
    "Job, Indexed": Row(
        build=lambda shop: _with(job(shop.spec("ends")), parallelism=1, completions=3, completionMode="Indexed"),
        steps=PODS,
        pods=3,
        ends=True,
    ),
    "Job, retried with the old image": Row(build=lambda shop: job(_fails_once(shop)), steps=PODS, ends=True),
    "Job, restartPolicy OnFailure": Row(build=_restarting, steps=PODS, ends=True),
    "CronJob, Forbid": Row(
        build=lambda shop: _with(cron_job(shop.spec("ends")), **_FORBID),
        steps=TEMPLATE_PODS,
        ends=True,
        status=_overdue,
    ),
}
"""What runs to its end."""

ROWS = SERVICES | JOBS
