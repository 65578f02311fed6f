"""What the demo comes to: whether every workload is back, and the table that says how it went. Performs no I/O."""

from collections.abc import Iterator, Sequence

from playground.cluster.api import Manifest
from playground.demo.timeline import moved
from playground.demo.watcher import Recovery, Watcher, state, works

WORKLOADS = (("DaemonSet", "flannel"), ("Deployment", "web"), ("StatefulSet", "db"), ("CronJob", "report"))

_UPDATED = {
    "DaemonSet": "updatedNumberScheduled",
    "Deployment": "updatedReplicas",
    "StatefulSet": "updatedReplicas",
}


def missing(witness: Watcher, workloads: Sequence[tuple[str, str]] = WORKLOADS) -> list[str]:
    """Say of each workload that does not work, or not without a dead registry, what it lacks."""
    return [f"{kind}/{name}: {lack}" for kind, name in workloads if (lack := _lack(witness, kind, name))]


def rows(witness: Watcher, origin: float) -> Iterator[tuple[str, ...]]:
    """
    Yield the table of what happened to the workloads, with times since `origin`.

    They tell when a pod of the workload failed first, when one of it ran again, and when the last one had moved.
    """
    yield ("WORKLOAD", "MOVED", "FAILED", "AGAIN", "ALL", "PATCHED")
    back = {name for kind, name in WORKLOADS if not _lack(witness, kind, name)}
    for kind, name in WORKLOADS:
        incident = witness.incidents.get(name)
        if incident:
            times = _times(incident, origin, done=name in back)
            yield (f"{kind}/{name}", _moves(incident), *times, ", ".join(incident.patched) or "-")
        else:
            yield (f"{kind}/{name}", "-", "-", "-", "-", "-")


def _lack(witness: Watcher, kind: str, name: str) -> str:
    workload = next((each for (a, _, b), each in witness.objects.items() if (a, b) == (kind, name)), None)
    if not workload:
        return "it is not there"
    pods = witness.pods_of(name)
    wanted = _wanted(workload) or len(pods) or 1
    lacks = [f"{pod['metadata']['name']} hangs in {state(pod)}" for pod in pods if not works(pod)]
    if late := sum(works(pod) and not witness.is_back(pod) for pod in pods):
        lacks.append(f"{late} more still run from {', '.join(sorted(witness.dead))}")
    if len(pods) != wanted:
        lacks.append(f"it has {len(pods)} pods instead of {wanted}")
    if not lacks and not _rolled_out(kind, workload, wanted):
        lacks.append("its rollout goes on")
    return ", ".join(lacks)


def _wanted(workload: Manifest) -> int:
    """Return how many pods there should be; 0 where that is not said, as by a CronJob."""
    number = workload.get("status", {}).get("desiredNumberScheduled") or workload["spec"].get("replicas") or 0
    return int(number)


def _rolled_out(kind: str, workload: Manifest, wanted: int) -> bool:
    if kind not in _UPDATED:
        return True
    status = workload.get("status", {})
    seen = status.get("observedGeneration"), status.get(_UPDATED[kind])
    return bool(seen == (workload["metadata"]["generation"], wanted))


def _moves(incident: Recovery) -> str:
    return ", ".join(dict.fromkeys(moved(*move) for move in incident.moves)) or "-"


def _times(incident: Recovery, origin: float, *, done: bool) -> Iterator[str]:
    for moment in (incident.failed_at, incident.again_at, incident.moved_at if done else None):
        yield "-" if moment is None else f"{moment - origin:.1f} s"
