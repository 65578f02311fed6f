"""
The environment of storms: a real control plane, simulated nodes, and Saffire under its own role.

The nodes are in a process of their own. The API server's audit log says what was requested and when: one clock for
Saffire and its baselines.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from bench.harness.child_process import Child
from bench.harness.registries import DEAD, DEAD_PORT, LiveRegistry
from playground.cluster.api import Api
from playground.cluster.binaries import find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.environment import NAMESPACE, install
from playground.function_process import FunctionProcess, free_port
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import USER, stopped

T = TypeVar("T")

_AT_ONCE = 32
_CONTROLLERS = ("kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedEnvironment:
    """
    An environment that runs.

    Args:
        plane: the control plane.
        api: a client that may do everything.
        identity: what a program needs to send requests under Saffire's role.
        kubeconfig: the same as a file.
        audit: the audit log of Saffire's requests, which also has those of the baseline script, at other times.
        alive: the registry that works.
        registries: both registries.

    """

    plane: ControlPlane
    api: Api
    identity: dict[str, str]
    kubeconfig: Path
    audit: AuditLog
    alive: LiveRegistry
    registries: Child

    def nodes(self, count: int, *, faster: float = 1) -> Child:
        """Return simulated nodes that are `faster` than real ones."""
        names = [f"node-{number}" for number in range(count)]
        return Child("bench.harness.simulated_nodes", api=_access(self.api), names=names, faster=faster)

    def saffire(self, **environ: str) -> FunctionProcess:
        """Return Saffire as a served function, with `environ` added to its environment."""
        insecure = f"{DEAD},{self.alive.domain}"
        return FunctionProcess(self.kubeconfig, **{"SAFFIRE_INSECURE_REGISTRIES": insecure, **environ})

    def baseline(self) -> Child:
        """Return the baseline script."""
        return Child("bench.harness.baseline", api=self.identity)

    async def lose(self, nodes: Child) -> None:
        """Have the registry fail, for Saffire and then under the nodes, and all containers end."""
        await self.registries.ask(lose=DEAD)
        await nodes.ask(lose=DEAD)


@contextlib.asynccontextmanager
async def open_environment() -> AsyncIterator[SimulatedEnvironment]:
    """Start an environment without nodes."""
    port = free_port()
    ports = [DEAD_PORT, port]
    async with (
        ControlPlane(find_binaries()) as plane,
        Child("bench.harness.simulated_registries", ports=ports) as registries,
    ):
        await install(plane.admin)
        yield SimulatedEnvironment(
            plane=plane,
            api=plane.admin,
            identity=_access(await plane.api_for(NAMESPACE, "saffire")),
            kubeconfig=await plane.kubeconfig_for(NAMESPACE, "saffire"),
            audit=AuditLog(plane.audit, USER),
            alive=LiveRegistry(f"127.0.0.1:{port}"),
            registries=registries,
        )


@contextlib.contextmanager
def paused(environment: SimulatedEnvironment, nodes: Child) -> Iterator[None]:
    """Pause the controllers and the nodes, so that only the API server works."""
    pids = environment.plane.pids()
    with contextlib.ExitStack() as stack:
        for pid in (*(pids[name] for name in _CONTROLLERS), nodes.pid):
            stack.enter_context(stopped(pid))
        yield


def _access(api: Api) -> dict[str, str]:
    return {"server": api.server, "authority": api.authority, "token": api.token}


def answered_at(entry: dict[str, Any]) -> float:
    """Return when a request of the audit log was answered, in seconds since the epoch."""
    return datetime.fromisoformat(entry["stageTimestamp"]).timestamp()


def is_patched(entry: dict[str, Any]) -> bool:
    """Say whether a request of the audit log patched a Deployment."""
    about = (entry["verb"], entry["objectRef"]["resource"], entry["responseStatus"]["code"])
    return about == ("patch", "deployments", 200)


def patched_at(environment: SimulatedEnvironment, mark: int) -> float:
    """Return when the only patch since a mark of the audit log was answered, in seconds since the epoch."""
    [at] = [answered_at(entry) for entry in environment.audit.entries(mark) if is_patched(entry)]
    return at


async def for_all(do: Callable[[T], Awaitable[Any]], every: Iterable[T], at_once: int = _AT_ONCE) -> None:
    """Call `do` with every item, `at_once` of them at a time."""
    waiting: Iterator[T] = iter(every)

    async def work() -> None:
        for item in waiting:
            await do(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
