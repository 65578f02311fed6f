"""The demo: the main job, watched. A registry dies, and the workloads that need it are moved to another."""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from textwrap import wrap
from typing import TextIO

from playground.cluster.controlplane import ControlPlane
from playground.cluster.progress import step
from playground.demo.cluster import DemoCluster, RealCluster, SimulatedCluster
from playground.demo.result import WORKLOADS, rows
from playground.demo.script import REGISTRY, DemoScript
from playground.demo.timeline import SETTLE_SECONDS, WIDTH, Paint, Style, Timeline, clip, table
from playground.demo.watcher import Watcher
from playground.environment import SOURCES, follow, install, run_saffire

FOLLOWED = {
    "Event": "/api/v1/events",
    "Pod": "/api/v1/pods",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "Deployment": "/apis/apps/v1/deployments",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "CronJob": "/apis/batch/v1/cronjobs",
}

RECOVERY_SECONDS = 60
"""How long the workloads may take to be back after the last thing that the story makes happen."""

HOPELESS_SECONDS = 10
"""How long to look on without Saffire, when nothing is going to change."""

LEGEND = "  FAILED, AGAIN, ALL: its first failed pull, its first pod that ran again, its last one to move."

REAL = "real: kubelet and containerd, and what they take for the registries of the world, all on loopback"

KEPT = """
Everything keeps running until Ctrl-C. From another terminal:
  export KUBECONFIG={kubeconfig}
  kubectl get ais -A
  kubectl describe ais -n shop shop
  kubectl get events -A --field-selector reason=Failover"""

_TICK_SECONDS = 0.1


class Demo:
    """
    Plays the story once.

    Args:
        binaries: the path of each of `playground.cluster.binaries.CONTROL_PLANE`.
        paint: colours, or doesn't.
        unreal: why nodes and registries are played; `""` if they are real.
        out: where it is told.

    """

    def __init__(
        self, binaries: Mapping[str, Path], paint: Paint, *, unreal: str = "", out: TextIO = sys.stdout
    ) -> None:
        self._binaries = binaries
        self._unreal = unreal
        self._paint = paint
        self._out = out
        self._timeline = Timeline(out, paint)
        self._witness = Watcher(self._timeline, dead=set())

    async def play(self, *, with_saffire: bool = True, keep: bool = False) -> int:
        """Play, and return the exit status: 0 if every workload is back; `keep` goes on until Ctrl-C."""
        self._print(f"{REGISTRY} is going to die, and {len(WORKLOADS)} workloads need it.", style=Style.BOLD)
        nature = f"played: {self._unreal}" if self._unreal else REAL
        self._print(*wrap(f"Nodes and registries are {nature}.", WIDTH, break_on_hyphens=False))
        async with AsyncExitStack() as stack:
            plane, world = await self._set_up(stack, with_saffire=with_saffire)
            story = DemoScript(plane.admin, world, self._witness, self._timeline)
            async with asyncio.TaskGroup() as tasks:
                watching = [self._watch(plane, kind) for kind in FOLLOWED]
                background = [tasks.create_task(each) for each in (*watching, story.connect_nodes(), self._tell())]
                with step("Running flannel, web and db on two nodes", self._out):
                    await story.calm()
                await story.outage()
                lacking = await story.settle(RECOVERY_SECONDS if with_saffire else HOPELESS_SECONDS)
                await self._sum_up(plane, lacking)
                if keep:
                    self._print(KEPT.format(kubeconfig=plane.kubeconfig))
                    await asyncio.Event().wait()
                for task in background:
                    task.cancel()
        return 1 if lacking else 0

    async def _set_up(self, stack: AsyncExitStack, *, with_saffire: bool) -> tuple[ControlPlane, DemoCluster]:
        with step("Starting a Kubernetes control plane", self._out):
            plane = await stack.enter_async_context(ControlPlane(self._binaries))
            await install(plane.admin)
        if with_saffire:
            with step("Serving Saffire under its own service account", self._out):
                await stack.enter_async_context(run_saffire(plane, lambda line: self._witness.hear(line, _now())))
        if self._unreal:
            return plane, await stack.enter_async_context(SimulatedCluster(plane.admin))
        with step("Filling registries on loopback with images", self._out):
            return plane, await stack.enter_async_context(RealCluster(plane))

    async def _watch(self, plane: ControlPlane, kind: str) -> None:
        while True:
            async for there, manifest in follow(plane.admin, FOLLOWED[kind], kind):
                if there:
                    self._witness.see(kind, manifest, _now())
                else:
                    self._witness.forget(kind, manifest)

    async def _tell(self) -> None:
        while True:
            self._timeline.flush(until=_now() - SETTLE_SECONDS)
            await asyncio.sleep(_TICK_SECONDS)

    async def _sum_up(self, plane: ControlPlane, lacking: list[str]) -> None:
        self._timeline.flush()
        self._print()
        head, *lines = table(list(rows(self._witness, self._timeline.origin or 0.0)))
        self._print(head, style=Style.BOLD)
        self._print(*lines)
        self._print(LEGEND, style=Style.DIM)
        self._print("\n$ kubectl get ais -A", style=Style.BOLD)
        self._print(*table(await _sources(plane)))
        self._print()
        if lacking:
            self._print(*(clip(f"✗ {line}") for line in lacking), style=Style.RED)
        else:
            self._print(f"✓ All {len(WORKLOADS)} workloads run again, without {REGISTRY}.", style=Style.GREEN)

    def _print(self, *lines: str, style: Style | None = None) -> None:
        for line in lines or ("",):
            print(self._paint(line, style) if style else line, file=self._out, flush=True)


async def _sources(plane: ControlPlane) -> list[tuple[str, ...]]:
    """Return the sources of all namespaces as `kubectl get` shows them."""
    found = await plane.admin.table(SOURCES)
    heads = ("NAMESPACE", *(column["name"].upper() for column in found["columnDefinitions"]))
    lines = ((row["object"]["metadata"]["namespace"], *map(_cell, row["cells"])) for row in found["rows"])
    return [heads, *lines]


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _now() -> float:
    return time.monotonic()
