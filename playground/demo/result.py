"""The result of the demo: which workloads have recovered, and a table that says when. It performs no I/O."""

from collections.abc import Iterator, Sequence

from playground.cluster.api import Manifest
from playground.demo.timeline import changed_parts
from playground.demo.watcher import Recovery, Watcher, state, works

WORKLOADS = (("DaemonSet", "flannel"), ("Deployment", "web"), ("StatefulSet", "db"), ("CronJob", "report"))

_UPDATED = {
    "DaemonSet": "updatedNumberScheduled",
    "Deployment": "updatedReplicas",
    "StatefulSet": "updatedReplicas",
}


def unrecovered(watcher: Watcher, workloads: Sequence[tuple[str, str]] = WORKLOADS) -> list[str]:
    """Return the workloads that do not work, or still need a dead registry, each with the reason."""
    reasons = {(kind, name): _why_unrecovered(watcher, kind, name) for kind, name in workloads}
    return [f"{kind}/{name}: {reason}" for (kind, name), reason in reasons.items() if reason]


def result_rows(watcher: Watcher, origin: float) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows of the result, with times since `origin`.

    FAILED is when a pod of the workload first failed, AGAIN when its first pod ran again, ALL when its last pod had
    moved.
    """
    yield ("WORKLOAD", "MOVED TO", "FAILED", "AGAIN", "ALL", "PATCHED")
    for kind, name in WORKLOADS:
        if recovery := watcher.recoveries.get(name):
            times = _times(recovery, origin, has_recovered=not _why_unrecovered(watcher, kind, name))
            yield (f"{kind}/{name}", _targets(recovery), *times, ", ".join(recovery.patched) or "-")
        else:
            yield (f"{kind}/{name}", "-", "-", "-", "-", "-")


def proofs(watcher: Watcher) -> str:
    """Return what was proven of the alternatives, each with the names of the workloads that moved there."""
    names: dict[str, list[str]] = {}
    for _, name in WORKLOADS:
        for proof in watcher.recoveries[name].proofs if name in watcher.recoveries else ():
            names.setdefault(proof, []).append(name)
    return "; ".join(f"{proof} ({', '.join(of_proof)})" for proof, of_proof in names.items())


def _why_unrecovered(watcher: Watcher, kind: str, name: str) -> str:
    """Return why a workload has not recovered; `""` if it has."""
    keys = [key for key in watcher.objects if (key[0], key[2]) == (kind, name)]
    if not keys:
        return "it is not there"
    workload = watcher.objects[keys[0]]
    pods = watcher.pods_of(name)
    expected = _expected_pods(workload) or len(pods) or 1
    reasons = [f"{pod['metadata']['name']} hangs in {state(pod)}" for pod in pods if not works(pod)]
    if not_moved := sum(works(pod) and not watcher.has_recovered(pod) for pod in pods):
        reasons.append(f"{not_moved} more still run from {', '.join(sorted(watcher.dead))}")
    if len(pods) != expected:
        reasons.append(f"it has {len(pods)} pods instead of {expected}")
    if not reasons and not _is_rolled_out(kind, workload, expected):
        reasons.append("its rollout goes on")
    return ", ".join(reasons)


def _expected_pods(workload: Manifest) -> int:
    """Return how many pods the workload should have; 0 if it does not say so, as in a CronJob."""
    number = workload.get("status", {}).get("desiredNumberScheduled") or workload["spec"].get("replicas") or 0
    return int(number)


def _is_rolled_out(kind: str, workload: Manifest, expected: int) -> bool:
    if kind not in _UPDATED:
        return True
    status = workload.get("status", {})
    observed = status.get("observedGeneration"), status.get(_UPDATED[kind])
    return bool(observed == (workload["metadata"]["generation"], expected))


def _targets(recovery: Recovery) -> str:
    """Return the repositories that the images of a workload moved to, without what all references have in common."""
    targets = [changed_parts(*move)[1] for move in recovery.moves]
    return ", ".join(dict.fromkeys(targets)) or "-"


def _times(recovery: Recovery, origin: float, *, has_recovered: bool) -> Iterator[str]:
    for moment in (recovery.failed_at, recovery.running_at, recovery.moved_at if has_recovered else None):
        yield "-" if moment is None else f"{moment - origin:.1f} s"
