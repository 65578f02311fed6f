"""The workloads of this tier: what they run is in a registry that is dead, and in another one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from api.workloads import (
    container,
    daemon_set,
    deployment,
    images,
    job,
    pod,
    pod_spec,
    replica_set,
    replication_controller,
    stateful_set,
)

from playground.api import Manifest
from playground.images import Name


@dataclass(frozen=True, slots=True)
class Shop:
    """What the images' references start with: `old` where they cannot be pulled, `new` where they can."""

    old: str
    new: str

    def dead(self, name: Name = "sleeps") -> str:
        """Return the reference of an image that cannot be pulled."""
        return f"{self.old}/{name}:v1"

    def alive(self, name: Name = "sleeps") -> str:
        """Return the reference of the same image where it can be pulled."""
        return f"{self.new}/{name}:v1"

    def spec(self, name: Name = "sleeps", **fields: Any) -> Manifest:
        """Return the spec of a pod with one container, whose image is dead."""
        return pod_spec(container(image=self.dead(name)), **fields)

    def owns(self, pod: Manifest) -> bool:
        """Say whether no image of a pod is a dead one."""
        return not any(image.startswith(self.old) for image in images(pod["spec"]).values())


@dataclass(frozen=True, slots=True)
class Case:
    """A workload, and how many pods it wants."""

    build: Callable[[Shop], Manifest]
    pods: int = 1


def _with_init(shop: Shop, **fields: Any) -> Manifest:
    init = {**container("init", shop.dead("ends")), **fields}
    return pod_spec(container(image=shop.alive()), init=[init])


def _beside(shop: Shop, *others: Manifest) -> Manifest:
    return pod_spec(container(image=shop.dead()), *others)


def _strategy(surge: int) -> Manifest:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge}}


def _with(manifest: Manifest, **fields: Any) -> Manifest:
    return manifest | {"spec": manifest["spec"] | fields}


_ON_DELETE = {"type": "OnDelete"}

SERVICES = {
    "Deployment": Case(lambda shop: deployment(shop.spec(), replicas=2), 2),
    "Deployment without surge": Case(lambda shop: deployment(shop.spec(), replicas=2, strategy=_strategy(0)), 2),
    "Deployment that recreates": Case(
        lambda shop: deployment(shop.spec(), replicas=2, strategy={"type": "Recreate"}), 2
    ),
    "ReplicaSet": Case(lambda shop: replica_set(shop.spec()), 2),
    "ReplicationController": Case(lambda shop: replication_controller(shop.spec()), 2),
    "StatefulSet": Case(lambda shop: stateful_set(shop.spec()), 2),
    "StatefulSet in parallel": Case(lambda shop: _with(stateful_set(shop.spec()), podManagementPolicy="Parallel"), 2),
    "StatefulSet on delete": Case(lambda shop: _with(stateful_set(shop.spec()), updateStrategy=_ON_DELETE), 2),
    "StatefulSet with partition": Case(
        lambda shop: _with(
            stateful_set(shop.spec()), updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        ),
        2,
    ),
    "DaemonSet": Case(lambda shop: daemon_set(shop.spec())),
    "DaemonSet on delete": Case(lambda shop: _with(daemon_set(shop.spec()), updateStrategy=_ON_DELETE)),
    "DaemonSet with init container": Case(lambda shop: daemon_set(_with_init(shop))),
    "Pod": Case(lambda shop: pod(shop.spec())),
    "Pod with healthy container": Case(lambda shop: pod(_beside(shop, container("healthy", shop.alive())))),
    "Pod with two dead containers": Case(lambda shop: pod(_beside(shop, container("other", shop.dead("sleeps"))))),
    "Pod with sidecar": Case(
        lambda shop: pod(
            pod_spec(container(image=shop.alive()), init=[container("side", shop.dead(), restartPolicy="Always")])
        )
    ),
    "Deployment that always pulls": Case(
        lambda shop: deployment(pod_spec(container(image=shop.dead(), imagePullPolicy="Always")), replicas=2), 2
    ),
}
"""What runs for good, by what it is called."""

JOBS = {
    "Job": Case(lambda shop: job(shop.spec("ends"))),
    "parallel Job": Case(lambda shop: _with(job(shop.spec("ends")), parallelism=2, completions=2), 2),
    "indexed Job": Case(
        lambda shop: _with(job(shop.spec("ends")), parallelism=1, completions=3, completionMode="Indexed"), 3
    ),
}
"""What runs to its end, by what it is called, with the pods it takes."""
