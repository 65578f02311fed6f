"""An enclosure is a world of its own, and nothing outlives it."""

import sys
import uuid
from pathlib import Path

import pytest

from playground.cluster.commands import run
from playground.cluster.processes import ProcessError
from playground.node.sandbox import Sandbox
from playground.node.sandbox_init import CGROUPS, KERNEL


@pytest.fixture
def name() -> str:
    """Give a name that nobody else uses."""
    return f"saffire-test-{uuid.uuid4().hex[:8]}"


def cgroups(name: str) -> list[Path]:
    """Return the cgroups of that name."""
    return [*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]


async def test_what_is_written_inside_is_not_on_the_machine(name: str) -> None:
    """Files in /run and /var are the enclosure's own, and those of the machine's /var can be read."""
    written = [Path("/run", name), Path("/var/lib", name)]
    async with Sandbox(name) as enclosure:
        await run(*enclosure.inside("touch", *written))
        assert [True, True] == [enclosure.path(str(path)).exists() for path in written]
        assert enclosure.path("/var/lib/misc").exists()
        assert [False, False] == [path.exists() for path in written]


async def test_the_kernel_is_as_a_kubelet_wants_it_and_remains_as_it_is(name: str) -> None:
    """Who changes settings of the kernel in there changes them for nobody."""
    before = settings()
    async with Sandbox(name) as enclosure:
        files = [f"/proc/sys/{setting}" for setting in KERNEL]
        assert "".join(KERNEL.values()) == await run(*enclosure.inside("cat", *files))
        await run(*enclosure.inside("sh", "-c", f"echo 2 > {files[0]}"))
    assert before == settings()


async def test_only_processes_inside_are_to_be_seen(name: str) -> None:
    """The enclosure's first process has the number 1."""
    async with Sandbox(name) as enclosure:
        assert "enclosure_init" in await run(*enclosure.inside("cat", "/proc/1/cmdline"))


async def test_leaving_ends_whatever_runs_inside(name: str) -> None:
    """A process that has left its group and its parent, and is deaf, ends too; and the cgroups are gone."""
    async with Sandbox(name) as enclosure:
        assert cgroups(name)
        deaf = "trap '' TERM HUP INT; setsid sh -c 'sleep 1000000' >/dev/null 2>&1 & echo ready"
        assert "ready\n" == await run(*enclosure.inside("sh", "-c", deaf))
        namespace = namespace_of(enclosure.pid)
        assert len(members(namespace)) > 1
    assert not members(namespace)
    assert not cgroups(name)


async def test_a_failure_to_make_one_is_told(name: str) -> None:
    """A cgroup that exists is somebody else's, and stays."""
    async with Sandbox(name):
        with pytest.raises(ProcessError, match=r"(?s)no enclosure can be made.*File exists"):
            await Sandbox(name).__aenter__()
        assert cgroups(name)


async def test_a_machine_that_makes_none_is_no_node() -> None:
    """Root of a container may not do what it takes: that is told before anything is tried."""
    program = "from playground.node.packages import unmet_requirement; print(unmet_requirement())"
    powerless = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
    assert "\n" == await run(sys.executable, "-c", program)
    assert "unshare failed: Operation not permitted" in await run(*powerless, sys.executable, "-c", program)
    assert not cgroups("saffire-trial-*")


def settings() -> list[str]:
    """Return the settings of the machine's kernel."""
    return [Path("/proc/sys", name).read_text() for name in KERNEL]


def namespace_of(pid: int | str) -> str:
    """Return the PID namespace of a process; `""` if it has ended, or is none of ours."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def members(namespace: str) -> list[str]:
    """Return the processes of a PID namespace."""
    return [folder.name for folder in Path("/proc").glob("[0-9]*") if namespace_of(folder.name) == namespace]
