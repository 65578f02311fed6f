"""
Sees what happens to the workloads of the demo, and keeps a record of it.

Nothing here performs I/O. What a witness says comes from the API server's objects: a pod fails because the kubelet's
Event says so, an image moved because the object has another one. Of Saffire's own log, it repeats the decisions only.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from playground.cluster.api import Manifest
from playground.demo.timeline import Entry, Timeline, What, moved

POD_SPECS = {
    "Pod": ("spec",),
    "DaemonSet": ("spec", "template", "spec"),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
"""Where the containers are, in every kind of object that is patched."""

_HISTORY = "saffire.fairwinds.com/history"
_PULL_FAILED = re.compile(r'Failed to pull image "([^"]+)"')
_EVERYDAY = {"NoPullFailure", "NoSuchPod", "NoSource", "PodTerminating"}


@dataclass(slots=True)
class Recovery:
    """What became of one workload; times are in seconds of the witness's clock."""

    failed_at: float
    again_at: float | None = None
    """When a pod of it ran again."""
    moved_at: float | None = None
    """When the last pod of it so far ran on an alternative."""
    moves: list[tuple[str, str]] = field(default_factory=list)
    patched: list[str] = field(default_factory=list)
    """What of it was patched, in order: pods, template or both."""


class Watcher:
    """
    Follows the workloads that `app` labels name, each by its own name.

    Args:
        timeline: is told what happens.
        dead: domains of the registries that are dead by now.

    """

    def __init__(self, timeline: Timeline, dead: set[str]) -> None:
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.incidents: dict[str, Recovery] = {}
        self._timeline = timeline
        self.dead = dead
        self._told: set[tuple[str, ...]] = set()

    def see(self, kind: str, manifest: Manifest, at: float) -> None:
        """Take in an object that is new or changed."""
        if kind == "Event":
            self._see_event(manifest, at)
            return
        key = _key(kind, manifest)
        before = self.objects.get(key)
        self.objects[key] = manifest
        if kind in POD_SPECS and before:
            self._see_patches(kind, before, manifest, at)
        if kind == "Pod":
            self._see_pod(manifest, at)

    def forget(self, kind: str, manifest: Manifest) -> None:
        """Take in that an object is gone."""
        self.objects.pop(_key(kind, manifest), None)

    def hear(self, line: dict[str, Any], at: float) -> None:
        """Take in a line of Saffire's log about an event that it answered."""
        begun = at - line.get("seconds", 0.0)
        _, _, pod = line.get("pod", "").partition("/")
        for plan in line.get("plans", ()):
            if plan["plan"] == "Failover":
                self._tell(Entry(begun, What.DECIDED, plan["workload"], f"→ {plan['candidate']}"), pod)
            elif plan.get("reason") not in _EVERYDAY:
                why = [plan[key] for key in ("reason", "detail", "until") if key in plan]
                self._tell(Entry(begun, What.LEFT, f"Pod/{pod}", ": ".join(why)), pod)

    def pods_of(self, name: str) -> list[Manifest]:
        """Return the pods of a workload that are to stay."""
        return [
            pod
            for (kind, _, _), pod in self.objects.items()
            if kind == "Pod" and _app(pod) == name and "deletionTimestamp" not in pod["metadata"]
        ]

    def is_back(self, pod: Manifest) -> bool:
        """Say whether a pod does its work, or has done it, with no image of a dead registry."""
        return works(pod) and not any(image.split("/")[0] in self.dead for image in images("Pod", pod).values())

    def _see_event(self, event: Manifest, at: float) -> None:
        match = _PULL_FAILED.match(event.get("message", ""))
        name = event["involvedObject"]["name"]
        pod = self.objects.get(("Pod", event["metadata"]["namespace"], name))
        if not match or not pod:
            return
        self.incidents.setdefault(_app(pod), Recovery(failed_at=at))
        self._tell(Entry(at, What.FAILS, f"Pod/{name}", match[1]), pod["metadata"]["uid"])

    def _see_patches(self, kind: str, before: Manifest, after: Manifest, at: float) -> None:
        """Tell of the images that Saffire replaced: those whose move is in the record that came with it."""
        record = _record(after)
        old = images(kind, before)
        for container, image in images(kind, after).items():
            move = (old.get(container, image), image)
            if move not in record or move[0] == move[1]:
                continue
            name = after["metadata"]["name"]
            incident = self.incidents.setdefault(_app(after) if kind == "Pod" else name, Recovery(failed_at=at))
            if move not in incident.moves:
                incident.moves.append(move)
            part = "pod" if kind == "Pod" else "template"
            if part not in incident.patched:
                incident.patched.append(part)
            self._tell(Entry(at, What.PATCHED, f"{kind}/{name}", moved(*move)), container)

    def _see_pod(self, pod: Manifest, at: float) -> None:
        incident = self.incidents.get(_app(pod))
        if incident and self.is_back(pod):
            running = list(images("Pod", pod).values())[-1]
            if self._tell(Entry(at, What.RUNS, f"Pod/{pod['metadata']['name']}", running), pod["metadata"]["uid"]):
                incident.again_at = at if incident.again_at is None else incident.again_at
                incident.moved_at = at

    def _tell(self, entry: Entry, of: str) -> bool:
        """Tell of what was not told yet, and return whether that was so."""
        key = (of, entry.what.name, entry.whom, entry.detail)
        if key in self._told:
            return False
        self._told.add(key)
        self._timeline.add(entry)
        return True


def images(kind: str, manifest: Manifest) -> dict[str, str]:
    """Return the image of each container that an object's pods have, or of the pod's own."""
    spec = manifest
    for part in POD_SPECS[kind]:
        spec = spec[part]
    return {one["name"]: one["image"] for one in (*spec.get("initContainers", ()), *spec["containers"])}


def works(pod: Manifest) -> bool:
    """Say whether a pod is ready, or has done its work."""
    status = pod.get("status", {})
    ready = any((one["type"], one["status"]) == ("Ready", "True") for one in status.get("conditions", ()))
    return bool(ready or status.get("phase") == "Succeeded")


def state(pod: Manifest) -> str:
    """Return the state of a pod in the words of `kubectl get`."""
    status = pod.get("status", {})
    for prefix, field_ in (("Init:", "initContainerStatuses"), ("", "containerStatuses")):
        for container in status.get(field_, ()):
            if reason := container["state"].get("waiting", {}).get("reason"):
                return f"{prefix}{reason}"
    return str(status.get("phase", "Pending"))


def _record(manifest: Manifest) -> list[tuple[str, str]]:
    annotation = manifest["metadata"].get("annotations", {}).get(_HISTORY, "{}")
    return [(entry["from"], entry["to"]) for entry in json.loads(annotation).get("failovers", ())]


def _app(pod: Manifest) -> str:
    app: str = pod["metadata"].get("labels", {}).get("app", "")
    return app


def _key(kind: str, manifest: Manifest) -> tuple[str, str, str]:
    return kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"]
