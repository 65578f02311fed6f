"""
One pod in a kubelet's hands: what it does at each look at the pod, without doing any I/O.

A kubelet works in rounds, and so does `PodWorker.sync`. Each round first reports the status that the rounds before it
led to and only then acts: this is why, on a real node as here, Events run ahead of the status by a round.
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
    How fast a played kubelet is.

    The defaults are a real one's. Tests divide them, and what takes minutes on a node takes a second.
    """

    status_lag: timedelta = timedelta(seconds=0.7)
    """From an action to the round that reports it: about 0.7 s were measured."""
    retry: timedelta = timedelta(seconds=10)
    """From a failed round to the next, which comes up to half as much later."""
    first_back_off: timedelta = timedelta(seconds=10)
    """From a failed pull to the next of the same image for the same pod; doubles with each failure."""
    longest_back_off: timedelta = timedelta(seconds=300)
    """Where the doubling ends."""
    run: timedelta = timedelta(seconds=1)
    """How long a container runs that is meant to end: init containers, and all of a pod that isn't restarted always."""

    def divided(self, divisor: float) -> "Pace":
        """Return the same kubelet, `divisor` times as fast."""
        return Pace(**{one.name: getattr(self, one.name) / divisor for one in fields(self)})


@dataclass(frozen=True, slots=True)
class Node:
    """What all pods of one node share: its name, its address, and its images."""

    name: str
    address: str
    images: NodeImages


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What one look at a pod leads to: the status to write, then the Events, then another look after a while."""

    status: Manifest
    events: list[Manifest]
    again: timedelta | None


class PodWorker:
    """
    Plays the kubelet for one pod.

    Args:
        pod: as bound to the node.
        host: the node.
        address: the pod's own.
        pace: how fast.

    """

    def __init__(self, pod: Manifest, host: Node, address: str, pace: Pace) -> None:
        spec = pod["spec"]
        self.pod = pod
        self._host = host
        self._address = host.address if spec.get("hostNetwork") else address
        self._pace = pace
        self._correlator = Correlator(host.name)
        self._puller = Puller(host.images, pace.first_back_off, pace.longest_back_off)
        self._inits = [Container(each, "initContainers") for each in spec.get("initContainers", [])]
        self._mains = [Container(each, "containers") for each in spec["containers"]]
        self._conditions = Conditions(_turned(pod))
        self._began: datetime | None = None
        self._sandbox = False
        self._changed = False
        self._lost = False

    @property
    def leaving(self) -> bool:
        """Whether the pod has been asked to go."""
        return "deletionTimestamp" in self.pod["metadata"]

    def update(self, pod: Manifest) -> bool:
        """Take the pod as it is now; return whether a round is due: it isn't when only the status differs."""
        leaving = "deletionTimestamp" in pod["metadata"]
        if pod["spec"] == self.pod["spec"] and leaving == self.leaving:
            return False
        self.pod = pod
        for containers in (self._inits, self._mains):
            for container in containers:
                [container.spec] = [one for one in pod["spec"][container.role] if one["name"] == container.name]
        return True

    def sync(self, now: datetime) -> SyncResult:
        """Look at the pod: report, then act."""
        self._changed, self._lost = self._lost, False
        self._began = self._began or now
        self._finish_what_ran_its_time(now)
        status = self._status(now)
        events = [] if status["phase"] in {"Succeeded", "Failed"} else self._record(self._act(now), now)
        return SyncResult(status, events, self._again(now))

    def lose(self, now: datetime) -> None:
        """Have whatever runs die, as on a node that goes down and comes back: the next round starts it again."""
        for container in (*self._inits, *self._mains):
            if container.running:
                container.kill(now)
                self._lost = True

    def end(self, now: datetime) -> SyncResult:
        """Stop whatever runs, because the pod is leaving."""
        stopped = [one for one in (*self._inits, *self._mains) if one.running]
        notes = [one.note("Normal", "Killing", f"Stopping container {one.name}") for one in stopped]
        for container in stopped:
            container.finish(now, KILLED)
        # A pod that goes is over, even if nothing of it ever ran: whoever counts it waits for one of these phases.
        over = {"phase": "Succeeded" if phase(self._mains) == "Succeeded" else "Failed"}
        return SyncResult(self._status(now) | over, self._record(notes, now), None)

    def _record(self, notes: Iterable[Occurrence], now: datetime) -> list[Manifest]:
        written = [self._correlator.record(self.pod, note, now) for note in notes]
        return [event for event in written if event]

    def _act(self, now: datetime) -> Iterator[Occurrence]:
        # The pod's network comes first; once it is there, the status has an address to show.
        self._changed = self._changed or not self._sandbox
        self._sandbox = True
        initialised = any(one.run or one.last for one in self._mains)
        for container in self._inits:
            yield from self._tend(container, now)
            if not (container.passed or initialised):
                return
        for container in self._mains:
            yield from self._tend(container, now)

    def _tend(self, container: Container, now: datetime) -> Iterator[Occurrence]:
        if container.stays and container.running and container.run and container.run.image != container.image:
            message = f"Container {container.name} definition changed, will be restarted"
            yield container.note("Normal", "Killing", message)
            container.kill(now)
            self._changed = True
        if not container.run:
            yield from self._start(container, now)

    def _start(self, container: Container, now: datetime) -> Iterator[Occurrence]:
        policy = container.spec.get("imagePullPolicy", "IfNotPresent")
        answer = self._puller.ensure(container.image, policy, now)
        container.refusal = answer.refusal
        for words in answer.events:
            yield container.note(*words)
        if not answer.refusal:
            container.start(self.pod["metadata"]["uid"], now)
            self._changed = True
            yield container.note("Normal", "Created", f"Created container: {container.name}")
            yield container.note("Normal", "Started", f"Started container {container.name}")

    def _finish_what_ran_its_time(self, now: datetime) -> None:
        for container in self._ending():
            if container.run and now - container.run.started >= self._pace.run:
                container.finish(now)
                self._changed = True
        if all(one.finished for one in self._mains):
            for sidecar in self._inits:
                if sidecar.running:
                    sidecar.finish(now)

    def _ending(self) -> list[Container]:
        """Return the running containers that will end by themselves."""
        inits = [one for one in self._inits if one.running and not one.sidecar]
        if self.pod["spec"].get("restartPolicy", "Always") == "Always":
            return inits
        return inits + [one for one in self._mains if one.running]

    def _again(self, now: datetime) -> timedelta | None:
        waits = [one.run.started + self._pace.run - now for one in self._ending() if one.run]
        if self._changed:
            waits.append(self._pace.status_lag)
        if any(one.refusal and not one.run for one in (*self._inits, *self._mains)):
            waits.append(self._pace.retry * (1 + self._jitter() / 2))
        return min(waits, default=None)

    def _jitter(self) -> float:
        """Return a number from 0 to 1 that differs between pods, so that they don't all retry at once."""
        return zlib.crc32(self.pod["metadata"]["uid"].encode()) / 2**32

    def _status(self, now: datetime) -> Manifest:
        generation = self.pod["metadata"].get("generation", 1)
        before_start = "PodInitializing" if self._inits else "ContainerCreating"
        status: Manifest = {
            "conditions": self._conditions.render(
                self._inits, self._mains, sandbox=self._sandbox, generation=generation, now=now
            ),
            "containerStatuses": [one.status(before_start) for one in self._mains],
            "hostIP": self._host.address,
            "hostIPs": [{"ip": self._host.address}],
            "observedGeneration": generation,
            "phase": phase(self._mains),
            "startTime": rfc3339(self._began or now),
        }
        if self._inits:
            status["initContainerStatuses"] = [one.status(before_start) for one in self._inits]
        if self._sandbox:
            status |= {"podIP": self._address, "podIPs": [{"ip": self._address}]}
        return status


def _turned(pod: Manifest) -> dict[str, tuple[str, str]]:
    """Return when each condition that the pod was bound with last turned."""
    conditions = pod.get("status", {}).get("conditions", [])
    return {one["type"]: (one["status"], one.get("lastTransitionTime", "")) for one in conditions}
