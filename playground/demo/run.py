"""Runs the demo: a registry dies, and Saffire moves the workloads that need it to another registry."""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TextIO

from playground.cluster.controlplane import ControlPlane
from playground.cluster.progress import step
from playground.demo.cluster import DemoCluster, RealCluster, SimulatedCluster
from playground.demo.result import WORKLOADS, proofs, result_rows
from playground.demo.script import REGISTRY, DemoScript
from playground.demo.timeline import SETTLE_SECONDS, Style, Terminal, Timeline, table
from playground.demo.watcher import Watcher
from playground.environment import SOURCES, follow, install, run_saffire, sweep
from playground.function_process import FunctionProcess

WATCHED = {
    "Event": "/api/v1/events",
    "Pod": "/api/v1/pods",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "Deployment": "/apis/apps/v1/deployments",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "CronJob": "/apis/batch/v1/cronjobs",
}
"""The kinds of objects that the watcher gets, and their collections."""

RECOVERY_SECONDS = 60
"""How long the workloads may take to recover after the last step of the script."""

HOPELESS_SECONDS = 10
"""How long to wait without Saffire, when no workload is going to recover."""

LEGEND = "  FAILED: its first failed pull. AGAIN: its first pod runs again. ALL: its last pod has moved."

REAL = "real: kubelet and containerd, and registries on loopback that the nodes take for the real ones"

# Saffire asks registries for the condition Ready in its sweeps, once a minute. So READY would mostly show the state
# before the outage.
HIDDEN_COLUMN = "READY"
SOURCES_HEADING = "The sources now, as in `kubectl get ais -A`, without READY:"
SOURCES_LEGEND = "  READY is left out: until the next sweep, it shows the state before the outage."

KEPT = """
Everything keeps running until Ctrl-C. From another terminal:
  export KUBECONFIG={kubeconfig}
  kubectl get ais -A
  kubectl describe ais -n shop shop
  kubectl get events -A --field-selector reason=Failover"""

_TICK_SECONDS = 0.1


class Demo:
    """
    One run of the demo.

    Args:
        binaries: the path of each of `playground.cluster.binaries.CONTROL_PLANE`.
        terminal: what the terminal can show.
        why_simulated: why nodes and registries are simulated; `""` if they are real.
        out: where the demo prints.

    """

    def __init__(
        self, binaries: Mapping[str, Path], terminal: Terminal, *, why_simulated: str = "", out: TextIO = sys.stdout
    ) -> None:
        self._binaries = binaries
        self._why_simulated = why_simulated
        self._terminal = terminal
        self._out = out
        self._timeline = Timeline(out, terminal)
        self._watcher = Watcher(self._timeline, dead=set())

    async def run(self, *, with_saffire: bool = True, keep: bool = False) -> int:
        """Run the demo; return the exit status, 0 if every workload recovers. With `keep`, wait for Ctrl-C first."""
        self._print(f"{REGISTRY} is going to die, and {len(WORKLOADS)} workloads need it.", style=Style.BOLD)
        nature = f"simulated: {self._why_simulated}" if self._why_simulated else REAL
        self._print(f"Nodes and registries are {nature}.")
        async with AsyncExitStack() as stack:
            plane, cluster, saffire = await self._set_up(stack, with_saffire=with_saffire)
            script = DemoScript(plane.admin, cluster, self._watcher, self._timeline)
            async with asyncio.TaskGroup() as tasks:
                watches = [self._watch(plane, kind) for kind in WATCHED]
                coroutines = (*watches, script.connect_nodes(), self._print_timeline())
                background = [tasks.create_task(coroutine) for coroutine in coroutines]
                with step("Running flannel, web and db on two nodes", self._out):
                    await script.start_workloads()
                if saffire:
                    with step("Waiting for a sweep, in which Saffire asks the registries", self._out):
                        await sweep(saffire)
                await script.run_outage()
                unrecovered = await script.until_recovered(RECOVERY_SECONDS if with_saffire else HOPELESS_SECONDS)
                await self._print_result(plane, unrecovered)
                if keep:
                    print(KEPT.format(kubeconfig=plane.kubeconfig), file=self._out, flush=True)
                    await asyncio.Event().wait()
                for task in background:
                    task.cancel()
        return 1 if unrecovered else 0

    async def _set_up(
        self, stack: AsyncExitStack, *, with_saffire: bool
    ) -> tuple[ControlPlane, DemoCluster, FunctionProcess | None]:
        with step("Starting a Kubernetes control plane", self._out):
            plane = await stack.enter_async_context(ControlPlane(self._binaries))
            await install(plane.admin)
        with step("Filling registries on loopback with images", self._out):
            cluster: DemoCluster = SimulatedCluster(plane.admin) if self._why_simulated else RealCluster(plane)
            await stack.enter_async_context(cluster)
        if not with_saffire:
            return plane, cluster, None
        with step("Starting Saffire under its own service account", self._out):
            saffire = run_saffire(plane, lambda line: self._watcher.read_log_line(line, _now()), **cluster.environ)
            return plane, cluster, await stack.enter_async_context(saffire)

    async def _watch(self, plane: ControlPlane, kind: str) -> None:
        while True:
            async for exists, manifest in follow(plane.admin, WATCHED[kind], kind):
                if exists:
                    self._watcher.update(kind, manifest, _now())
                else:
                    self._watcher.remove(kind, manifest)

    async def _print_timeline(self) -> None:
        while True:
            self._timeline.flush(until=_now() - SETTLE_SECONDS)
            await asyncio.sleep(_TICK_SECONDS)

    async def _print_result(self, plane: ControlPlane, unrecovered: list[str]) -> None:
        self._timeline.flush()
        self._print("")
        self._print_table(list(result_rows(self._watcher, self._timeline.origin or 0.0)))
        self._print(LEGEND, style=Style.DIM)
        self._print(f"  PROOF of the alternative: {proofs(self._watcher) or 'nothing was moved'}", style=Style.DIM)
        self._print("")
        self._print(SOURCES_HEADING, style=Style.BOLD)
        self._print_table(await _source_rows(plane))
        self._print(SOURCES_LEGEND, style=Style.DIM)
        self._print("")
        for reason in unrecovered:
            self._print(f"✗ {reason}", style=Style.RED)
        if not unrecovered:
            self._print(f"✓ All {len(WORKLOADS)} workloads run again, without {REGISTRY}.", style=Style.GREEN)

    def _print_table(self, rows: list[tuple[str, ...]]) -> None:
        head, *lines = table(rows, self._terminal.width)
        print(self._terminal.styled(head, Style.BOLD), *lines, sep="\n", file=self._out, flush=True)

    def _print(self, text: str, *, style: Style | None = None) -> None:
        for line in self._terminal.wrapped(text, indent="  ") or [""]:
            print(self._terminal.styled(line, style) if style else line, file=self._out, flush=True)


async def _source_rows(plane: ControlPlane) -> list[tuple[str, ...]]:
    """Return the sources of all namespaces as `kubectl get` shows them, without the column that says nothing here."""
    sources = await plane.admin.table(SOURCES)
    names = [column["name"].upper() for column in sources["columnDefinitions"]]
    shown = [index for index, name in enumerate(names) if name != HIDDEN_COLUMN]
    rows = [("NAMESPACE", *(names[index] for index in shown))]
    for row in sources["rows"]:
        cells = ["" if cell is None else str(cell) for cell in row["cells"]]
        rows.append((row["object"]["metadata"]["namespace"], *(cells[index] for index in shown)))
    return rows


def _now() -> float:
    return time.monotonic()
