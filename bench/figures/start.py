"""
The time from the start of the program to its first answer, and the memory that it has then.

The baseline loads the least that a function of this kind needs: functions-framework and the Kubernetes client.
Saffire's first answer does not load all of it, so a second result is the time until it reads the first failed pull.
After that, all of the program is loaded, and its memory is measured. It has a service account, as in a pod, and no API
server answers, so nothing of a cluster is in memory.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from bench.harness import unrelated_events
from bench.harness.percentiles import percentile
from bench.harness.raw_http import RawConnection
from bench.harness.targets import CLIENT, POD
from bench.report.result import Options, Result
from playground import ROOT
from playground.certificates import CertificateAuthority
from playground.cluster.processes import ProcessGroup
from playground.function_process import free_port, server_command
from testkit import memory

NAME = "start"
TARGET = 0.9
LOOK_TARGET = 1.1
MEMORY_TARGET = 70
DEADLINE_SECONDS = 60
_POLL_SECONDS = 0.002
_NO_API_SERVER = b"the API server did not answer"
"""The answer to an Event of a failed pull."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure both by turns. The first of each does not count, since it may compile and read from disk."""
    ours, looks, theirs, sizes = [], [], [], []
    authority = CertificateAuthority()
    for _ in range(options.runs + 1):
        async with _starting(POD, authority) as start:
            ours.append(await start.answered(unrelated_events.requests(start.url)[0]))
            looks.append(await start.answered(unrelated_events.failure(start.url), _NO_API_SERVER))
            sizes.append(memory.proportional(start.pid))
        async with _starting(CLIENT, authority) as start:
            theirs.append(await start.answered(unrelated_events.requests(start.url)[0]))
    value, look, baseline, size = (percentile(values[1:], 50) for values in (ours, looks, theirs, sizes))
    options.say(
        f"start: {value:.2f} s, {look:.2f} s until a failed pull is read; baseline {baseline:.2f} s; {size:.1f} MiB"
    )
    yield Result(figure=f"{NAME}: first answer", unit="s", value=value, baseline=baseline, target=TARGET)
    yield Result(figure=f"{NAME}: first look at a failure", unit="s", value=look, baseline=baseline, target=LOOK_TARGET)
    yield Result(figure=f"{NAME}: memory of all processes, idle", unit="MiB", value=size, target=MEMORY_TARGET)


@dataclass(frozen=True, slots=True)
class _Start:
    """A function that is starting, since the moment `began` of `time.perf_counter`."""

    url: str
    began: float
    processes: ProcessGroup

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self.processes.pids()["function"]

    async def answered(self, request: bytes, refusal: bytes = b"") -> float:
        """
        Return the seconds from the start to the answer.

        With a `refusal`, the answer has to be a 503 that contains it.
        """
        await self.processes.until(_answers(self.url, request, refusal), "function", DEADLINE_SECONDS)
        return time.perf_counter() - self.began


@contextlib.asynccontextmanager
async def _starting(source: Path, authority: CertificateAuthority) -> AsyncIterator[_Start]:
    with tempfile.TemporaryDirectory(prefix="saffire-start-") as folder:
        async with ProcessGroup(Path(folder)) as processes:
            _write_service_account(Path(folder), authority)
            port = free_port()
            environ = {
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "TMPDIR": folder,
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "",  # or in a shell that sets it, each start would compile
                "SAFFIRE_LOG_FORMAT": "json",
                "KUBECONFIG": "",
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(free_port()),
            }
            began = time.perf_counter()
            await processes.start("function", *server_command(source), **environ)
            yield _Start(f"http://127.0.0.1:{port}/", began, processes)


def _write_service_account(folder: Path, authority: CertificateAuthority) -> None:
    """Write what the kubelet puts into a pod; bench/harness/targets/pod.py reads it."""
    (folder / "token").write_text("a token")
    (folder / "ca.crt").write_bytes(authority.pem)


async def _answers(url: str, request: bytes, refusal: bytes) -> None:
    while True:
        with contextlib.suppress(OSError), RawConnection(url) as connection:
            answer = connection.post(request, HTTPStatus.SERVICE_UNAVAILABLE if refusal else HTTPStatus.OK)
            if refusal not in answer:
                raise ValueError(answer)
            return
        await asyncio.sleep(_POLL_SECONDS)
