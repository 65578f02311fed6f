"""
Watches the workloads of the demo, and records what happens to them.

Nothing here performs I/O. The watcher relies on the API server's objects: a pod has failed if the kubelet's Event says
so, and an image has moved if the object has another one. Of Saffire's log, it only repeats the decisions.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from playground.cluster.api import Manifest
from playground.demo.timeline import Entry, EntryKind, Timeline, changed_parts

POD_SPECS = {
    "Pod": ("spec",),
    "DaemonSet": ("spec", "template", "spec"),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
"""Where the pod spec is, in each kind of object that Saffire patches."""

_HISTORY = "saffire.fairwinds.com/history"
_PULL_FAILED = re.compile(r'Failed to pull image "([^"]+)"')
_ROUTINE_REASONS = {"NoPullFailure", "NoSuchPod", "NoSource", "PodTerminating"}


@dataclass(slots=True)
class Recovery:
    """How a workload recovered from the outage. Times are in seconds of the watcher's clock."""

    failed_at: float
    running_at: float | None = None
    """When its first pod ran again."""
    moved_at: float | None = None
    """When its last pod so far ran from an alternative."""
    moves: list[tuple[str, str]] = field(default_factory=list)
    """The images that Saffire replaced, and their replacements."""
    patched: list[str] = field(default_factory=list)
    """What Saffire patched, in order: `pod`, `template` or both."""
    proofs: list[str] = field(default_factory=list)
    """What was proven of the alternatives, as in Saffire's record: `equal digest`, `present` or `unverified`."""


class Watcher:
    """
    Watches workloads whose pods have the name of their workload as the label `app`.

    Args:
        timeline: gets an entry for everything that happens.
        dead: the domains of the registries that are dead now.

    """

    def __init__(self, timeline: Timeline, dead: set[str]) -> None:
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        """All objects that exist, by kind, namespace and name."""
        self.recoveries: dict[str, Recovery] = {}
        """The recovery of each workload that failed, by its name."""
        self.dead = dead
        self._timeline = timeline
        self._reported: set[tuple[str, ...]] = set()

    def update(self, kind: str, manifest: Manifest, at: float) -> None:
        """Take over an object that was created or changed at the time `at`."""
        if kind == "Event":
            self._read_event(manifest, at)
            return
        key = _key(kind, manifest)
        before = self.objects.get(key)
        self.objects[key] = manifest
        if kind in POD_SPECS and before:
            self._compare_images(kind, before, manifest, at)
        if kind == "Pod":
            self._check_recovery(manifest, at)

    def remove(self, kind: str, manifest: Manifest) -> None:
        """Remove an object that was deleted."""
        self.objects.pop(_key(kind, manifest), None)

    def read_log_line(self, line: dict[str, Any], at: float) -> None:
        """Report the decisions in a line of Saffire's log that was written at the time `at`."""
        started = at - line.get("seconds", 0.0)
        _, _, pod = line.get("pod", "").partition("/")
        for plan in line.get("plans", ()):
            if plan["plan"] == "Failover":
                self._report(Entry(started, EntryKind.DECIDED, plan["workload"], f"→ {plan['candidate']}"), pod)
            elif plan.get("reason") not in _ROUTINE_REASONS:
                reason = [plan[key] for key in ("reason", "detail", "until") if key in plan]
                self._report(Entry(started, EntryKind.LEFT, f"Pod/{pod}", ": ".join(reason)), pod)

    def pods_of(self, name: str) -> list[Manifest]:
        """Return the pods of a workload, without those that are being deleted."""
        return [
            pod
            for (kind, _, _), pod in self.objects.items()
            if kind == "Pod" and _app(pod) == name and "deletionTimestamp" not in pod["metadata"]
        ]

    def has_recovered(self, pod: Manifest) -> bool:
        """Return whether a pod works, or has succeeded, with no image of a dead registry."""
        return works(pod) and not any(image.split("/")[0] in self.dead for image in images("Pod", pod).values())

    def _read_event(self, event: Manifest, at: float) -> None:
        match = _PULL_FAILED.match(event.get("message", ""))
        name = event["involvedObject"]["name"]
        pod = self.objects.get(("Pod", event["metadata"]["namespace"], name))
        if not match or not pod:
            return
        self.recoveries.setdefault(_app(pod), Recovery(failed_at=at))
        self._report(Entry(at, EntryKind.FAILS, f"Pod/{name}", match[1]), pod["metadata"]["uid"])

    def _compare_images(self, kind: str, before: Manifest, after: Manifest, at: float) -> None:
        """Report the images that Saffire replaced: its record, which comes in the same patch, lists them."""
        record = _record(after)
        old = images(kind, before)
        for container, image in images(kind, after).items():
            move = (old.get(container, image), image)
            proof = record.get(move)
            if proof is None or move[0] == move[1]:
                continue
            name = after["metadata"]["name"]
            recovery = self.recoveries.setdefault(_app(after) if kind == "Pod" else name, Recovery(failed_at=at))
            if move not in recovery.moves:
                recovery.moves.append(move)
            if proof not in recovery.proofs:
                recovery.proofs.append(proof)
            part = "pod" if kind == "Pod" else "template"
            if part not in recovery.patched:
                recovery.patched.append(part)
            self._report(Entry(at, EntryKind.PATCHED, f"{kind}/{name}", " → ".join(changed_parts(*move))), container)

    def _check_recovery(self, pod: Manifest, at: float) -> None:
        recovery = self.recoveries.get(_app(pod))
        if recovery and self.has_recovered(pod):
            image = list(images("Pod", pod).values())[-1]
            entry = Entry(at, EntryKind.RUNS, f"Pod/{pod['metadata']['name']}", image)
            if self._report(entry, pod["metadata"]["uid"]):
                recovery.running_at = at if recovery.running_at is None else recovery.running_at
                recovery.moved_at = at

    def _report(self, entry: Entry, of: str) -> bool:
        """Add an entry about `of` to the timeline, unless it is there already; return whether it was added."""
        key = (of, entry.kind.name, entry.subject, entry.detail)
        if key in self._reported:
            return False
        self._reported.add(key)
        self._timeline.add(entry)
        return True


def images(kind: str, manifest: Manifest) -> dict[str, str]:
    """Return the image of each container in the pod spec of an object."""
    spec = manifest
    for part in POD_SPECS[kind]:
        spec = spec[part]
    return {
        container["name"]: container["image"] for container in (*spec.get("initContainers", ()), *spec["containers"])
    }


def works(pod: Manifest) -> bool:
    """Return whether a pod is ready, or has succeeded."""
    status = pod.get("status", {})
    conditions = {(condition["type"], condition["status"]) for condition in status.get("conditions", ())}
    return ("Ready", "True") in conditions or status.get("phase") == "Succeeded"


def state(pod: Manifest) -> str:
    """Return the state of a pod as `kubectl get` shows it."""
    status = pod.get("status", {})
    for prefix, statuses in (("Init:", "initContainerStatuses"), ("", "containerStatuses")):
        for container in status.get(statuses, ()):
            if reason := container["state"].get("waiting", {}).get("reason"):
                return f"{prefix}{reason}"
    return str(status.get("phase", "Pending"))


def _record(manifest: Manifest) -> dict[tuple[str, str], str]:
    """Return the moves in Saffire's record of an object, each with what was proven of the new image."""
    annotation = manifest["metadata"].get("annotations", {}).get(_HISTORY, "{}")
    entries = json.loads(annotation).get("failovers", ())
    return {(entry["from"], entry["to"]): entry.get("proof", "") for entry in entries}


def _app(pod: Manifest) -> str:
    app: str = pod["metadata"].get("labels", {}).get("app", "")
    return app


def _key(kind: str, manifest: Manifest) -> tuple[str, str, str]:
    return kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"]
