"""The event source in a process of its own, as beside the function in a pod, and what it needs in a cluster."""

import asyncio
import contextlib
import functools
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Self

import yaml

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.cluster.processes import ProcessGroup
from playground.function_process import free_port
from testkit import ROOT
from testkit.api.clusters import NAMESPACE, NOT_YET, manifest
from testkit.api.namespace_fixture import until
from testkit.event_sink import RecordingSink

STANDALONE = ROOT / "deploy" / "standalone"
ACCOUNT = LEASE = "saffire-source"
LEASE_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}"


def standalone(name: str) -> Manifest:
    """Return the object in a file of deploy/standalone/."""
    parsed: Manifest = yaml.safe_load((STANDALONE / f"{name}.yaml").read_text())
    return parsed


async def install_source(plane: ControlPlane) -> Path:
    """Install what the event source needs; return the kubeconfig of its account once its roles take effect."""
    for name in ("source-serviceaccount", "source-clusterrole", "source-clusterrolebinding"):
        await plane.admin.apply(manifest(name))
    for name in ("source-lease", "source-role", "source-rolebinding"):
        await plane.admin.apply(standalone(name))
    kubeconfig = await plane.kubeconfig_for(NAMESPACE, ACCOUNT)
    async with await plane.api_for(NAMESPACE, ACCOUNT) as api:
        for path in (
            LEASE_PATH,
            "/api/v1/events?limit=1",
            "/apis/saffire.fairwinds.com/v1alpha1/alternateimagesources",
        ):
            await until(functools.partial(_may_get, api, path))
    return kubeconfig


async def _may_get(api: Api, path: str) -> bool:
    try:
        await api.get(path)
    except ApiError as error:
        if error.status not in NOT_YET:
            raise
        return False
    return True


class EventSourceProcess:
    """
    The event source, posting to `sink`; use as an async context manager.

    Entering returns when the process answers probes, and not before that it does its work: see `until_ready`.

    Args:
        kubeconfig: of the identity that it has at the API server.
        sink: the URL of the function.
        arguments: further arguments of the command line.
        environ: added to its environment.

    """

    def __init__(self, kubeconfig: Path, sink: str, *arguments: str, **environ: str) -> None:
        self._arguments = (f"--sink={sink}", *arguments)
        self._environ = {
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(ROOT),
            "SAFFIRE_SWEEP_INTERVAL_SECONDS": "0.5",
            **environ,
        }
        self._port = free_port()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-eventsource-")))
            self._processes = await stack.enter_async_context(ProcessGroup(folder))
            command = (sys.executable, "-m", "eventsource", *self._arguments, f"--health-port={self._port}")
            await self._processes.start("eventsource", *command, **self._environ)
            await self._processes.until(self._until_answered("/healthz"), "eventsource", 30)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._processes.pids()["eventsource"]

    async def until_ready(self) -> None:
        """Wait until it watches, or waits for the Lease."""
        await self._processes.until(self._until_answered("/readyz"), "eventsource", 30)

    async def probe(self, path: str) -> tuple[int, str]:
        """Return status and text of its answer to a probe; 0 and nothing if there is none."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = (await reader.read()).decode()
            writer.close()
            return int(answer.split(" ", 2)[1]), answer.partition("\r\n\r\n")[2]
        return 0, ""

    async def ended(self) -> int:
        """Wait until the process has ended by itself, and return its exit status."""
        return await self._processes.wait("eventsource")

    async def until_logged(self, message: str, times: int = 1) -> None:
        """Wait until this stands in its log so many times."""

        async def is_logged() -> bool:
            return self.output().count(message) >= times

        await until(is_logged)

    def output(self) -> str:
        """Return everything that it has printed so far."""
        return (self._processes.folder / "eventsource.log").read_text()

    async def _until_answered(self, path: str) -> None:
        async def answers() -> bool:
            return (await self.probe(path))[0] == HTTPStatus.OK

        await until(answers)


def parsed(request: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    return dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]), body


async def write_event(api: Api, namespace: str, name: str, **fields: object) -> Manifest:
    """Write an Event as a kubelet would about a failed pull, with other `fields`."""
    event = {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": namespace},
        "type": "Warning",
        "reason": "Failed",
        "message": 'Failed to pull image "a&b": <é>',
        "count": 1,
        **fields,
    }
    written: Manifest = await api.post(f"/api/v1/namespaces/{namespace}/events", event)
    return written


class EventSourceSink(RecordingSink):
    """
    A sink that records CloudEvents, and answers probes without recording them.

    It gives each of them the next of `answers`; with `namespace`, it records those about its objects alone.
    """

    def __init__(self, answers: Sequence[bytes] = (), namespace: str = "") -> None:
        super().__init__(answers, about=f"Ce-Namespace: {namespace}" if namespace else "Ce-Type")
        self._answers_probes = asyncio.Event()
        self._answers_probes.set()

    async def _reply(self, head: bytes, body: bytes) -> bytes:
        await self._answers_probes.wait()
        return await super()._reply(head, body)

    @contextlib.asynccontextmanager
    async def hanging(self) -> AsyncIterator[None]:
        """Answer nothing for the duration of the context, not even probes."""
        self._answers_probes.clear()
        try:
            yield
        finally:
            self._answers_probes.set()

    def about(self, namespace: str) -> list[bytes]:
        """Return the requests about objects of a namespace."""
        return [request for request in self.requests if parsed(request)[0].get("Ce-Namespace") == namespace]

    def sweeps(self) -> int:
        """Return how many sweeps were asked for."""
        return sum(parsed(request)[0]["Ce-Type"] == "dev.knative.sources.ping" for request in self.requests)

    async def eventually(self, namespace: str, *names: str) -> None:
        """Wait until the objects of a namespace that were sent are exactly these."""

        async def are_sent() -> bool:
            return [parsed(request)[0]["Ce-Name"] for request in self.about(namespace)] == list(names)

        await until(are_sent)

    async def until_swept(self, times: int) -> None:
        """Wait until at least so many sweeps were asked for."""

        async def are_asked_for() -> bool:
            return self.sweeps() >= times

        await until(are_asked_for)
