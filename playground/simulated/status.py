"""
What a kubelet remembers about a pod's containers, and the Pod status that follows from it.

Nothing here performs I/O. Every field has the form of those in `testkit/recordings/pods-1.34.json`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from playground.cluster.api import Manifest
from playground.simulated.events import Occurrence, rfc3339
from playground.simulated.images import Image, Waiting

Role = Literal["containers", "initContainers"]

KILLED = 128 + 9
"""The exit code of a process that was ended by SIGKILL."""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a container, and its end if it has ended."""

    image: str
    id: str
    started: datetime
    finished: datetime | None = None
    exit_code: int = 0

    def state(self) -> Manifest:
        """Return the run as a container status shows it: `running` or `terminated`."""
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
    """A container: its spec, and what the kubelet knows about it."""

    spec: Manifest
    role: Role
    run: Run | None = None
    last: Run | None = None
    restarts: int = 0
    waiting: Waiting | None = None

    @property
    def name(self) -> str:
        """The name, unique within the pod."""
        name: str = self.spec["name"]
        return name

    @property
    def image(self) -> str:
        """The image, as the pod's spec writes it."""
        image: str = self.spec["image"]
        return image

    @property
    def sidecar(self) -> bool:
        """Whether this is an init container that keeps running."""
        return self.role == "initContainers" and self.spec.get("restartPolicy") == "Always"

    @property
    def long_running(self) -> bool:
        """Whether this is an app container or a sidecar, and not an init container that ends."""
        return self.role == "containers" or self.sidecar

    @property
    def running(self) -> bool:
        """Whether the container runs now."""
        return self.run is not None and self.run.finished is None

    @property
    def finished(self) -> bool:
        """Whether the container has ended."""
        return self.run is not None and self.run.finished is not None

    @property
    def initialized(self) -> bool:
        """Whether the next container may start after this one, which is an init container."""
        return self.running if self.sidecar else self.finished

    def occurrence(self, type_: str, reason: str, message: str) -> Occurrence:
        """Return an occurrence of this container."""
        return Occurrence(type_, reason, message, f"spec.{self.role}{{{self.name}}}")

    def start(self, pod_uid: str, now: datetime) -> None:
        """Start the container with the image of the spec."""
        if self.last:
            self.restarts += 1
        # A runtime chooses ids at random. Here it only matters that no two runs have the same.
        identity = f"{pod_uid} {self.name} {self.restarts}"
        self.run = Run(self.image, f"containerd://{hashlib.sha256(identity.encode()).hexdigest()}", now)
        self.waiting = None

    def kill(self, now: datetime) -> None:
        """End the run, so that another can start."""
        self.finish(now, KILLED)
        self.last, self.run = self.run, None

    def finish(self, now: datetime, exit_code: int = 0) -> None:
        """End the run."""
        if self.run:
            self.run = replace(self.run, finished=now, exit_code=exit_code)

    def status(self, before_start: str) -> Manifest:
        """Return the container's status; `before_start` is why it waits if its image was not refused."""
        run = self.run
        status = {
            "image": str(Image.parse(run.image)) if run else self.image,
            "imageID": Image.parse(run.image).id if run else "",
            "lastState": self.last.state() if self.last else {},
            "name": self.name,
            "ready": self.running or (self.role == "initContainers" and self.initialized),
            "restartCount": self.restarts,
            "started": self.running,
        }
        if run:
            started = {"containerID": run.id, "resources": self.spec.get("resources", {})}
            return {**status, **started, "state": run.state()}
        waiting = {"reason": before_start}
        if self.waiting:
            waiting = {"message": self.waiting.message, "reason": self.waiting.reason}
        return {**status, "state": {"waiting": waiting}}


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a pod: `turned` has the status of each, and when it changed last."""

    turned: dict[str, tuple[str, str]]

    def render(
        self,
        init_containers: Sequence[Container],
        app_containers: Sequence[Container],
        *,
        has_network: bool,
        generation: int,
        now: datetime,
    ) -> list[Manifest]:
        """Return the conditions as of `now`."""
        incomplete = [container.name for container in init_containers if not container.initialized]
        expected = [container for container in (*init_containers, *app_containers) if container.long_running]
        unready = [container.name for container in expected if not container.running]
        initialized = _unless(incomplete, "ContainersNotInitialized", "incomplete")
        ready = _unless(unready, "ContainersNotReady", "unready")
        pod_phase = phase(app_containers)
        if pod_phase in {"Succeeded", "Failed"}:
            reason = "PodCompleted" if pod_phase == "Succeeded" else "PodFailed"
            initialized, ready, has_network = ("True", reason, ""), ("False", reason, ""), False
        conditions = {
            "PodReadyToStartContainers": (str(has_network), "", ""),
            "Initialized": initialized,
            "Ready": ready,
            "ContainersReady": ready,
            "PodScheduled": ("True", "", ""),
        }
        return [
            {"type": kind, "observedGeneration": generation, "lastProbeTime": None, **self._condition(kind, words, now)}
            for kind, words in conditions.items()
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


def phase(containers: Sequence[Container]) -> str:
    """Return the phase of a pod from its containers, without the init containers."""
    runs = [container.run for container in containers]
    if all(run and run.finished for run in runs):
        return "Succeeded" if all(run and not run.exit_code for run in runs) else "Failed"
    # If a container ran before and waits now, its pod is still Running.
    return "Running" if all(container.run or container.last for container in containers) else "Pending"
