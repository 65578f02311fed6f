"""
Fault cases, and runners that run them one after the other, each with a function of its own behind a proxy of its own.

A case is a namespace with a workload that cannot pull its image, and a fault of the API server. The state of its
namespace afterwards has to be the state after a repair without a fault.
"""

import asyncio
import json
import os
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from eventsource.cloudevent import Envelope, render, timestamp, with_headers
from eventsource.delivery import RETRIED, RETRY_WAITS, SinkConnection, deliver
from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from testkit.api.fault_proxy import Fault, FaultProxy, Harm, SeenRequest
from testkit.api.namespace_fixture import HISTORY, NamespaceFixture, until
from testkit.api.workloads import ALIVE, DEAD, NEW, OLD, images, pod_spec_of

SWEEP = b'{"data":"sweep"}'
MOVED_SECONDS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of workload: how many of its pods fail at once, and which requests its repair sends."""

    workload: Callable[[], Manifest]
    pods: int
    requests: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the kind in Kubernetes."""
        name: str = self.workload()["kind"]
        return name


@dataclass(kw_only=True, slots=True)
class Case:
    """A fault during the repair of a workload. Unless it `is_redelivered`, the Event is lost with the fault."""

    kind: Kind
    fault: Fault | None
    is_redelivered: bool = True
    answers: list[int | None] = field(default_factory=list)
    requests: list[SeenRequest] = field(default_factory=list)
    was_harmed: bool = False
    was_swept: bool = False
    namespace: NamespaceFixture = field(init=False)
    event: Manifest = field(init=False)

    def __str__(self) -> str:
        """Return the name of the case."""
        return f"{self.kind.name}, {self.fault}{'' if self.is_redelivered else ', and the event is lost'}"

    async def prepare(self, namespace: NamespaceFixture) -> None:
        """Create the namespace, with a workload whose pods fail."""
        self.namespace = namespace
        await namespace.open()
        await namespace.apply(self.kind.workload())
        pods = await namespace.failing(self.kind.pods)
        self.event = await namespace.event(min(pods, key=lambda pod: str(pod["metadata"]["name"])))

    async def state(self) -> dict[str, Any]:
        """Return the state of the namespace, once every pod has an image that can be pulled."""

        async def moved() -> list[Manifest]:
            pods = await self.namespace.pods()
            return pods if all({"web": NEW} == images(pod["spec"]) for pod in pods) else []

        with suppress(TimeoutError):
            async with asyncio.timeout(MOVED_SECONDS):
                await until(moved)
        workload, status = await self.namespace.read(self.kind.workload()), await self.namespace.status()
        failovers = await self.namespace.events(reason="Failover", source="saffire")
        about = [event["involvedObject"]["kind"] for event in failovers]
        history = json.loads(workload["metadata"].get("annotations", {}).get(HISTORY, "{}"))
        return {
            "template": images(pod_spec_of(workload)),
            "pods": {str(images(pod["spec"])) for pod in await self.namespace.pods()},
            "history": [
                (failover["container"], failover["from"], failover["to"]) for failover in history.get("failovers", ())
            ],
            "switches": [_whose(entry, workload, "oldImage", "newImage") for entry in status.get("switches", ())],
            "active": [_whose(entry, workload, "from", "to") for entry in status.get("active", ())],
            "count": status.get("activeCount"),
            "recorded twice": sorted({kind for kind in about if about.count(kind) > 1 and kind != "Pod"}),
        }

    async def clear(self) -> None:
        """Delete what would slow down later cases; the namespace itself goes with the control plane."""
        await self.namespace.api.delete(f"{self.namespace.sources}/shop")
        await self.namespace.api.delete(await self.namespace.api.path(await self.namespace.read(self.kind.workload())))


def final(kind: Kind) -> dict[str, Any]:
    """Return the state after a repair without a fault."""
    return {
        "template": {"web": NEW},
        "pods": {str({"web": NEW})},
        "history": [("web", OLD, NEW)],
        "switches": [(kind.name, "web", OLD, NEW)],
        "active": [(kind.name, "web", OLD, NEW)],
        "count": 1,
        "recorded twice": [],
    }


def _whose(entry: Manifest, workload: Manifest, before: str, after: str) -> tuple[str, ...]:
    """Return what an entry of the status says; if it is about another object, also that object's name."""
    target = entry["target"]
    is_it = target["uid"] == workload["metadata"]["uid"]
    return (
        target["type"]["kind"],
        target["container"],
        entry[before],
        entry[after],
        *(() if is_it else (target["name"],)),
    )


class CaseRunner:
    """
    A function behind a fault proxy; use as an async context manager.

    Args:
        plane: the control plane.
        kubeconfig: the function's.
        folder: where the kubeconfig that leads to the proxy is written.
        within: the command in which the function runs.
        environ: added to the function's environment.

    """

    def __init__(
        self, plane: ControlPlane, kubeconfig: Path, folder: Path, *, within: Sequence[str | Path] = (), **environ: str
    ) -> None:
        self._within = within
        # No probes and no early sweeps: they are no part of a repair, and would write beside it.
        self._environ = {"SAFFIRE_SWEEP_SECONDS": "300", "SAFFIRE_PROBES_PER_MINUTE": "0", **environ}
        self.proxy = FaultProxy(plane.server, str(plane.authority), self.interrupt)
        self.is_alive = False
        self._template = json.loads(kubeconfig.read_text())
        self._kubeconfig = folder / f"{uuid.uuid4().hex}.kubeconfig"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.proxy)
            cluster = {"server": self.proxy.url}
            clusters = [{"name": entry["name"], "cluster": cluster} for entry in self._template["clusters"]]
            self._kubeconfig.write_text(json.dumps({**self._template, "clusters": clusters}))
            stack.push_async_callback(self._end)
            await self.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self) -> None:
        """Start the function."""
        self.is_alive = True
        self._life = AsyncExitStack()
        served = FunctionProcess(self._kubeconfig, wrapper=self._within, **self._environ)
        self.function = await self._life.enter_async_context(served)
        self._sink = SinkConnection(self.function.url)
        self._life.push_async_callback(self._sink.close)

    async def restart(self) -> None:
        """End the function and start it again."""
        await self._end()
        await self.start()

    async def _end(self) -> None:
        await self._life.aclose()

    def interrupt(self, harm: Harm) -> None:
        """Kill the function or its worker, send it SIGTERM, or cancel the wait for its answer."""
        match harm:
            case Harm.ABANDONED:
                self._delivering.cancel()
            case Harm.TERMINATED:
                os.kill(self.function.pid, signal.SIGTERM)
                self.is_alive = False
            case Harm.OUT_OF_MEMORY:
                # The largest process of the container. The parent process lives, and starts another worker.
                for pid in self.workers():
                    os.kill(pid, signal.SIGKILL)
            case _:
                # Also the parent process: it would start new workers.
                for pid in (self.function.pid, *self.workers()):
                    os.kill(pid, signal.SIGKILL)
                self.is_alive = False

    def workers(self) -> list[int]:
        """Return the processes that answer requests."""
        pid = self.function.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    async def run(self, case: Case) -> None:
        """
        Create the source, and deliver the Event as the event source would.

        The source says that its registries have answered, so that a sweep has no news of them to write.
        """
        source, now = await case.namespace.source(), timestamp(int(time.time()) * 10**9)
        answered = [{"registry": registry, "answeredAt": now} for registry in sorted((DEAD, ALIVE))]
        path = await case.namespace.api.path(source)
        await case.namespace.api.patch(f"{path}/status", {"status": {"registries": answered}})
        self.proxy.arm(case.fault, case.namespace.name)
        self._delivering = asyncio.create_task(self._deliver(case))
        await asyncio.wait([self._delivering])
        if self._delivering.cancelled():
            # No client waits for the answer: the repair is over when it has sent all its requests.
            await until(lambda: self._has_asked(case))
        else:
            await self._delivering
        case.requests, case.was_harmed = list(self.proxy.seen), self.proxy.has_harmed
        self.proxy.arm(None)

    async def _has_asked(self, case: Case) -> bool:
        """Say whether every request of a whole repair has been sent."""
        return set(case.kind.requests) <= {seen.name for seen in self.proxy.seen}

    async def _deliver(self, case: Case) -> None:
        request = with_headers(self.rendered(case.event), Prefer="wait=60")
        for wait in (0.0, *RETRY_WAITS):
            await asyncio.sleep(wait)
            delivery = await deliver(self._sink, request, ())
            case.answers.append(delivery.status)
            self.proxy.open()
            if not self.is_alive:
                await self.restart()
            is_lost = self.proxy.has_harmed and not case.is_redelivered
            if is_lost or (delivery.status is not None and delivery.status not in RETRIED):
                return

    def rendered(self, event: Manifest) -> bytes:
        """Return the bytes by which the event source sends an Event."""
        return render(
            "add",
            event,
            Envelope(
                id=str(uuid.uuid4()),
                time=timestamp(time.time_ns()),
                source="https://10.96.0.1:443",
                host=urlsplit(self.function.url).netloc,
                namespace="saffire",
            ),
        )

    async def sweep(self) -> list[SeenRequest]:
        """Have the function sweep; return the requests that it sent."""
        self.proxy.arm(None)
        head = [
            "POST / HTTP/1.1",
            f"Host: {urlsplit(self.function.url).netloc}",
            "Content-Type: application/json",
            f"Ce-Id: {uuid.uuid4()}",
            "Ce-Specversion: 1.0",
            "Ce-Type: dev.knative.sources.ping",
            "Ce-Source: /apis/v1/namespaces/saffire/pingsources/saffire-sweep",
            f"Content-Length: {len(SWEEP)}",
        ]
        status = await self._sink.post("\r\n".join([*head, "", ""]).encode() + SWEEP)
        assert 200 == status, self.function.output()[-2000:]
        return list(self.proxy.seen)


async def run_all(runners: list[CaseRunner], cases: Sequence[Case], namespace: Callable[[], NamespaceFixture]) -> None:
    """Run cases on all runners, and prepare the next cases meanwhile."""
    waiting = deque(cases)
    ready: asyncio.Queue[Case | None] = asyncio.Queue(maxsize=len(runners))

    async def prepare() -> None:
        while waiting:
            case = waiting.popleft()
            await case.prepare(namespace())
            await ready.put(case)

    async def prepare_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in runners:
                tasks.create_task(prepare())
        for _ in runners:
            await ready.put(None)

    async def run(runner: CaseRunner) -> None:
        while case := await ready.get():
            await runner.run(case)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(prepare_all())
        for runner in runners:
            tasks.create_task(run(runner))
