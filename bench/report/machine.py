"""On which machine and with which versions a run measured: enough to repeat it, nothing that names the owner."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from playground.cluster.binaries import find_binaries
from playground.cluster.commands import CommandError, run
from testkit import ROOT

MEMORY = Path("/proc/meminfo")


def machine(memory: Path = MEMORY) -> dict[str, object]:
    """Return cores, memory in MiB and kernel."""
    total = memory.read_text().partition("MemTotal:")[2].split()[0] if memory.exists() else "0"
    return {
        "cores": os.cpu_count(),
        "memory_mib": int(total) // 1024,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


async def versions() -> dict[str, str]:
    """Return the versions of all programs that take part."""
    server = await run(find_binaries()["kube-apiserver"], "--version")
    return {
        "python": platform.python_version(),
        "kubernetes": server.split()[-1],
        "kubernetes client": version("kubernetes"),
        "functions-framework": version("functions-framework"),
        "saffire": await commit(),
    }


async def commit(root: Path = ROOT) -> str:
    """Return the commit of a checkout, with a plus if more than documents changed since; `unknown` without Git."""
    try:
        head = await run("git", "-C", root, "rev-parse", "--short=12", "HEAD")
        changed = await run("git", "-C", root, "status", "--porcelain", "--", ".", ":!docs", ":!*.md")
    except (CommandError, OSError):
        return "unknown"
    return head.strip() + ("+" if changed.strip() else "")
