"""
What a kubelet remembers of a pod's containers, and the Pod status that follows from it.

Nothing here performs I/O. The shape of every field is that of `testkit/recordings/pods-1.34.json`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from playground.cluster.api import Manifest
from playground.simulated.events import Occurrence, rfc3339
from playground.simulated.images import Image, Refusal

Role = Literal["containers", "initContainers"]

KILLED = 128 + 9
"""Exit code of a process that the kernel ended with signal 9."""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a container, and its end once it has one."""

    image: str
    id: str
    started: datetime
    finished: datetime | None = None
    exit_code: int = 0

    def state(self) -> Manifest:
        """Return the run as the state that a container status shows."""
        if not self.finished:
            return {"running": {"startedAt": rfc3339(self.started)}}
        return {
            "terminated": {
                "containerID": self.id,
                "exitCode": self.exit_code,
                "finishedAt": rfc3339(self.finished),
                "reason": "Error" if self.exit_code else "Completed",
                "startedAt": rfc3339(self.started),
            }
        }


@dataclass(slots=True)
class Container:
    """One container: what its pod wants of it, and what the kubelet knows about it."""

    spec: Manifest
    role: Role
    run: Run | None = None
    last: Run | None = None
    restarts: int = 0
    refusal: Refusal | None = None

    @property
    def name(self) -> str:
        """The name, unique within the pod."""
        name: str = self.spec["name"]
        return name

    @property
    def image(self) -> str:
        """The image wanted, as the pod's spec writes it."""
        image: str = self.spec["image"]
        return image

    @property
    def sidecar(self) -> bool:
        """Whether this is an init container that stays."""
        return self.role == "initContainers" and self.spec.get("restartPolicy") == "Always"

    @property
    def stays(self) -> bool:
        """Whether it belongs to what the pod is there for, and not to its preparation."""
        return self.role == "containers" or self.sidecar

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.run is not None and self.run.finished is None

    @property
    def finished(self) -> bool:
        """Whether it ran to its end."""
        return self.run is not None and self.run.finished is not None

    @property
    def passed(self) -> bool:
        """Whether, as an init container, it lets the next container start."""
        return self.running if self.sidecar else self.finished

    def note(self, type_: str, reason: str, message: str) -> Occurrence:
        """Return a note about this container."""
        return Occurrence(type_, reason, message, f"spec.{self.role}{{{self.name}}}")

    def start(self, pod_uid: str, now: datetime) -> None:
        """Run the wanted image from `now` on."""
        if self.last:
            self.restarts += 1
        # A runtime draws its ids at random; all that matters is that no two runs have the same.
        identity = f"{pod_uid} {self.name} {self.restarts}"
        self.run = Run(self.image, f"containerd://{hashlib.sha256(identity.encode()).hexdigest()}", now)
        self.refusal = None

    def kill(self, now: datetime) -> None:
        """End the run to start another."""
        self.finish(now, KILLED)
        self.last, self.run = self.run, None

    def finish(self, now: datetime, exit_code: int = 0) -> None:
        """End the run for good."""
        if self.run:
            self.run = replace(self.run, finished=now, exit_code=exit_code)

    def status(self, before_start: str) -> Manifest:
        """Return the container's status; `before_start` is why it waits where nothing was refused."""
        run = self.run
        status = {
            "image": str(Image.parse(run.image)) if run else self.image,
            "imageID": Image.parse(run.image).id if run else "",
            "lastState": self.last.state() if self.last else {},
            "name": self.name,
            "ready": self.running or (self.role == "initContainers" and self.passed),
            "restartCount": self.restarts,
            "started": self.running,
        }
        if run:
            started = {"containerID": run.id, "resources": self.spec.get("resources", {})}
            return {**status, **started, "state": run.state()}
        waiting = {"reason": before_start}
        if self.refusal:
            waiting = {"message": self.refusal.message, "reason": self.refusal.reason}
        return {**status, "state": {"waiting": waiting}}


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of one pod: `turned` has, for each, its status and since when that has been so."""

    turned: dict[str, tuple[str, str]]

    def render(
        self, inits: Sequence[Container], mains: Sequence[Container], *, sandbox: bool, generation: int, now: datetime
    ) -> list[Manifest]:
        """Return the conditions as of `now`; `sandbox` says whether the pod has a network."""
        incomplete = [one.name for one in inits if not one.passed]
        unready = [one.name for one in (*inits, *mains) if one.stays and not one.running]
        initialized = _unless(incomplete, "ContainersNotInitialized", "incomplete")
        ready = _unless(unready, "ContainersNotReady", "unready")
        over = phase(mains)
        if over in {"Succeeded", "Failed"}:
            reason = "PodCompleted" if over == "Succeeded" else "PodFailed"
            initialized, ready, sandbox = ("True", reason, ""), ("False", reason, ""), False
        told = {
            "PodReadyToStartContainers": (str(sandbox), "", ""),
            "Initialized": initialized,
            "Ready": ready,
            "ContainersReady": ready,
            "PodScheduled": ("True", "", ""),
        }
        return [
            {"type": kind, "observedGeneration": generation, "lastProbeTime": None, **self._condition(kind, words, now)}
            for kind, words in told.items()
        ]

    def _condition(self, kind: str, words: tuple[str, str, str], now: datetime) -> Manifest:
        status, reason, message = words
        if self.turned.get(kind, ("", ""))[0] != status:
            self.turned[kind] = (status, rfc3339(now))
        condition = {"status": status, "lastTransitionTime": self.turned[kind][1], "reason": reason, "message": message}
        return {key: text for key, text in condition.items() if text}


def _unless(names: list[str], reason: str, what: str) -> tuple[str, str, str]:
    if not names:
        return ("True", "", "")
    return ("False", reason, f"containers with {what} status: [{' '.join(names)}]")


def phase(mains: Sequence[Container]) -> str:
    """Return the phase of the pod whose containers, without the init containers, are `mains`."""
    if all(one.finished for one in mains):
        return "Succeeded" if all(one.run and not one.run.exit_code for one in mains) else "Failed"
    # A container that ran before and waits now leaves its pod Running.
    return "Running" if all(one.run or one.last for one in mains) else "Pending"
