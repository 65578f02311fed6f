"""
Where storms are played: the real control plane, played nodes in a process of their own, Saffire under its own role.

What was asked of the API server, and when, is read from its audit log: one clock for Saffire and its baselines.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from bench.harness.child_process import Child
from bench.harness.registries import DEAD, LiveRegistry
from playground.api import Api
from playground.binaries import find
from playground.controlplane import ControlPlane
from playground.served import ServedFunction, free_port
from playground.stage import NAMESPACE, install
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import USER, stopped

T = TypeVar("T")

_AT_ONCE = 32
_CONTROLLERS = ("kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedEnvironment:
    """
    One that is open.

    Args:
        plane: the control plane.
        api: of a user who may do everything.
        identity: what a program needs to be Saffire at the API server.
        kubeconfig: the same as a file.
        audit: what Saffire asked of the API server; the bare script is told apart by when it ran.
        alive: the registry that lives.

    """

    plane: ControlPlane
    api: Api
    identity: dict[str, str]
    kubeconfig: Path
    audit: AuditLog
    alive: LiveRegistry

    def nodes(self, count: int, *, faster: float = 1, dead: Iterable[str] = ()) -> Child:
        """Return played nodes that are `faster` than real ones."""
        names = [f"node-{number}" for number in range(count)]
        return Child(
            "bench.harness.simulated_nodes", api=_access(self.api), names=names, dead=list(dead), faster=faster
        )

    def saffire(self, **environ: str) -> ServedFunction:
        """Return Saffire, with more in its environment, or something else."""
        insecure = f"{DEAD},{self.alive.domain}"
        return ServedFunction(self.kubeconfig, **{"SAFFIRE_INSECURE_REGISTRIES": insecure, **environ})

    def baseline(self) -> Child:
        """Return the bare script."""
        return Child("bench.harness.baseline", api=self.identity)

    def lose(self, nodes: Child) -> Awaitable[Any]:
        """Have the registry die under the nodes, and all that ran with it."""
        return nodes.ask(lose=DEAD)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[SimulatedEnvironment]:
    """Open one, without nodes."""
    port = free_port()
    async with ControlPlane(find()) as plane, Child("bench.harness.live_registry", port=port):
        await install(plane.admin)
        yield SimulatedEnvironment(
            plane=plane,
            api=plane.admin,
            identity=_access(await plane.api_for(NAMESPACE, "saffire")),
            kubeconfig=await plane.kubeconfig_for(NAMESPACE, "saffire"),
            audit=AuditLog(plane.audit, USER),
            alive=LiveRegistry(f"127.0.0.1:{port}"),
        )


@contextlib.contextmanager
def still(environment: SimulatedEnvironment, nodes: Child) -> Iterator[None]:
    """Have nothing but the API server do anything for a while."""
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
    """Say whether a request of the audit log has patched a Deployment."""
    about = (entry["verb"], entry["objectRef"]["resource"], entry["responseStatus"]["code"])
    return about == ("patch", "deployments", 200)


def patched_at(environment: SimulatedEnvironment, mark: int) -> float:
    """Return when the one patch since a mark of the audit log was answered, in seconds since the epoch."""
    [at] = [answered_at(entry) for entry in environment.audit.entries(mark) if is_patched(entry)]
    return at


async def all_of(do: Callable[[T], Awaitable[Any]], every: Iterable[T], at_once: int = _AT_ONCE) -> None:
    """Do something for each, `at_once` of them at a time."""
    waiting: Iterator[T] = iter(every)

    async def go_on() -> None:
        for item in waiting:
            await do(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(go_on())
