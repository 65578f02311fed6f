"""
What a kubelet does about one pod at each sync. Nothing here performs I/O.

Each sync (`PodWorker.sync`) first reports the status that earlier syncs led to, and only then acts. For this reason, on
a real node as here, Events are written one sync before the status that shows the same.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from playground.cluster.api import Manifest
from playground.simulated.events import Correlator, Occurrence, rfc3339
from playground.simulated.images import NodeImages, Puller
from playground.simulated.status import KILLED, Conditions, Container, phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """
    How fast a simulated kubelet is.

    The defaults are those of a real kubelet. Tests divide them, so that minutes become seconds.
    """

    status_lag: timedelta = timedelta(seconds=0.7)
    """From an action to the sync that reports it; about 0.7 s were measured."""
    retry: timedelta = timedelta(seconds=10)
    """From a failed sync to the next, which comes up to half as much later."""
    first_back_off: timedelta = timedelta(seconds=10)
    """From a failed pull to the next of the same image for the same pod; it doubles with each failure."""
    longest_back_off: timedelta = timedelta(seconds=300)
    """The back-off at which the doubling ends."""
    run: timedelta = timedelta(seconds=1)
    """How long a container runs that ends by itself: init containers, and all of a pod that is not always restarted."""

    def divided(self, divisor: float) -> "Pace":
        """Return a pace that is `divisor` times as fast."""
        return Pace(**{field.name: getattr(self, field.name) / divisor for field in fields(self)})


@dataclass(frozen=True, slots=True)
class Node:
    """What all pods of a node share: its name, its address and its images."""

    name: str
    address: str
    images: NodeImages


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of a sync: the status to write, then the Events, then when to sync again."""

    status: Manifest
    events: list[Manifest]
    resync_after: timedelta | None


class PodWorker:
    """
    Simulates what a kubelet does about one pod.

    Args:
        pod: the pod, bound to the node.
        node: the node.
        address: the address of the pod, unless it is on the host's network.
        pace: how fast the kubelet is.

    """

    def __init__(self, pod: Manifest, node: Node, address: str, pace: Pace) -> None:
        spec = pod["spec"]
        self.pod = pod
        self._node = node
        self._address = node.address if spec.get("hostNetwork") else address
        self._pace = pace
        self._correlator = Correlator(node.name)
        self._puller = Puller(node.images, pace.first_back_off, pace.longest_back_off)
        self._init_containers = [Container(entry, "initContainers") for entry in spec.get("initContainers", [])]
        self._app_containers = [Container(entry, "containers") for entry in spec["containers"]]
        self._conditions = Conditions(_turned(pod))
        self._began: datetime | None = None
        self._has_network = False
        self._changed = False
        self._lost = False

    @property
    def _containers(self) -> list[Container]:
        return [*self._init_containers, *self._app_containers]

    @property
    def terminating(self) -> bool:
        """Whether the pod has been deleted and is to end."""
        return "deletionTimestamp" in self.pod["metadata"]

    def update(self, pod: Manifest) -> bool:
        """Take over the pod as it is now; return whether a sync is due, which it is not if only the status differs."""
        terminating = "deletionTimestamp" in pod["metadata"]
        if pod["spec"] == self.pod["spec"] and terminating == self.terminating:
            return False
        self.pod = pod
        for containers in (self._init_containers, self._app_containers):
            for container in containers:
                [container.spec] = [spec for spec in pod["spec"][container.role] if spec["name"] == container.name]
        return True

    def sync(self, now: datetime) -> SyncResult:
        """Report the status of the pod, then act."""
        self._changed, self._lost = self._lost, False
        self._began = self._began or now
        self._finish_ending_containers(now)
        status = self._status(now)
        events = [] if status["phase"] in {"Succeeded", "Failed"} else self._record(self._act(now), now)
        return SyncResult(status, events, self._resync_after(now))

    def lose_containers(self, now: datetime) -> None:
        """End all running containers, as if the node went down and came back; the next sync starts them again."""
        for container in self._containers:
            if container.running:
                container.kill(now)
                self._lost = True

    def terminate(self, now: datetime) -> SyncResult:
        """Stop all running containers of a pod that was deleted."""
        running = [container for container in self._containers if container.running]
        occurrences = [
            container.occurrence("Normal", "Killing", f"Stopping container {container.name}") for container in running
        ]
        for container in running:
            container.finish(now, KILLED)
        # A deleted pod ends in one of these phases even if it never ran: controllers that count pods wait for them.
        ended = {"phase": "Succeeded" if phase(self._app_containers) == "Succeeded" else "Failed"}
        return SyncResult(self._status(now) | ended, self._record(occurrences, now), None)

    def _record(self, occurrences: Iterable[Occurrence], now: datetime) -> list[Manifest]:
        written = [self._correlator.record(self.pod, occurrence, now) for occurrence in occurrences]
        return [event for event in written if event]

    def _act(self, now: datetime) -> Iterator[Occurrence]:
        # The pod gets its network first; from then on, the status shows an address.
        self._changed = self._changed or not self._has_network
        self._has_network = True
        initialised = any(container.run or container.last for container in self._app_containers)
        for container in self._init_containers:
            yield from self._sync_container(container, now)
            if not (container.initialized or initialised):
                return
        for container in self._app_containers:
            yield from self._sync_container(container, now)

    def _sync_container(self, container: Container, now: datetime) -> Iterator[Occurrence]:
        if container.long_running and container.running and container.run and container.run.image != container.image:
            message = f"Container {container.name} definition changed, will be restarted"
            yield container.occurrence("Normal", "Killing", message)
            container.kill(now)
            self._changed = True
        if not container.run:
            yield from self._start(container, now)

    def _start(self, container: Container, now: datetime) -> Iterator[Occurrence]:
        policy = container.spec.get("imagePullPolicy", "IfNotPresent")
        result = self._puller.ensure(container.image, policy, now)
        container.waiting = result.waiting
        for words in result.events:
            yield container.occurrence(*words)
        if not result.waiting:
            container.start(self.pod["metadata"]["uid"], now)
            self._changed = True
            yield container.occurrence("Normal", "Created", f"Created container: {container.name}")
            yield container.occurrence("Normal", "Started", f"Started container {container.name}")

    def _finish_ending_containers(self, now: datetime) -> None:
        for container in self._ending_containers():
            if container.run and now - container.run.started >= self._pace.run:
                container.finish(now)
                self._changed = True
        if all(container.finished for container in self._app_containers):
            for sidecar in self._init_containers:
                if sidecar.running:
                    sidecar.finish(now)

    def _ending_containers(self) -> list[Container]:
        """Return the running containers that will end by themselves."""
        running = [container for container in self._init_containers if container.running and not container.sidecar]
        if self.pod["spec"].get("restartPolicy", "Always") == "Always":
            return running
        return running + [container for container in self._app_containers if container.running]

    def _resync_after(self, now: datetime) -> timedelta | None:
        runs = [container.run for container in self._ending_containers() if container.run]
        waits = [run.started + self._pace.run - now for run in runs]
        if self._changed:
            waits.append(self._pace.status_lag)
        if any(container.waiting and not container.run for container in self._containers):
            waits.append(self._pace.retry * (1 + self._jitter() / 2))
        return min(waits, default=None)

    def _jitter(self) -> float:
        """Return a number from 0 to 1 that differs between pods, so that they do not all retry at once."""
        return zlib.crc32(self.pod["metadata"]["uid"].encode()) / 2**32

    def _status(self, now: datetime) -> Manifest:
        generation = self.pod["metadata"].get("generation", 1)
        before_start = "PodInitializing" if self._init_containers else "ContainerCreating"
        status: Manifest = {
            "conditions": self._conditions.render(
                self._init_containers,
                self._app_containers,
                has_network=self._has_network,
                generation=generation,
                now=now,
            ),
            "containerStatuses": [container.status(before_start) for container in self._app_containers],
            "hostIP": self._node.address,
            "hostIPs": [{"ip": self._node.address}],
            "observedGeneration": generation,
            "phase": phase(self._app_containers),
            "startTime": rfc3339(self._began or now),
        }
        if self._init_containers:
            status["initContainerStatuses"] = [container.status(before_start) for container in self._init_containers]
        if self._has_network:
            status |= {"podIP": self._address, "podIPs": [{"ip": self._address}]}
        return status


def _turned(pod: Manifest) -> dict[str, tuple[str, str]]:
    """Return the status of each condition that the pod already has, and when it changed last."""
    conditions = pod.get("status", {}).get("conditions", [])
    return {
        condition["type"]: (condition["status"], condition.get("lastTransitionTime", "")) for condition in conditions
    }
