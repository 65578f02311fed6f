"""A sandbox separates a node from the machine, and nothing in it outlives it."""

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
    """Give a unique name."""
    return f"saffire-test-{uuid.uuid4().hex[:8]}"


def cgroups(name: str) -> list[Path]:
    """Return the cgroups of that name."""
    return [*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]


async def test_what_is_written_inside_is_not_on_the_machine(name: str) -> None:
    """Files in /run and /var are the sandbox's own; those of the machine's /var can be read."""
    written = [Path("/run", name), Path("/var/lib", name)]
    async with Sandbox(name) as sandbox:
        await run(*sandbox.inside("touch", *written))
        assert [True, True] == [sandbox.path(str(path)).exists() for path in written]
        assert sandbox.path("/var/lib/misc").exists()
        assert [False, False] == [path.exists() for path in written]


async def test_the_kernel_is_as_a_kubelet_wants_it_and_remains_as_it_is(name: str) -> None:
    """A change of kernel settings inside does not change those of the machine."""
    before = settings()
    async with Sandbox(name) as sandbox:
        files = [f"/proc/sys/{setting}" for setting in KERNEL]
        assert "".join(KERNEL.values()) == await run(*sandbox.inside("cat", *files))
        await run(*sandbox.inside("sh", "-c", f"echo 2 > {files[0]}"))
    assert before == settings()


async def test_only_processes_inside_are_to_be_seen(name: str) -> None:
    """The first process of the sandbox has the pid 1."""
    async with Sandbox(name) as sandbox:
        assert "sandbox_init" in await run(*sandbox.inside("cat", "/proc/1/cmdline"))


async def test_leaving_ends_whatever_runs_inside(name: str) -> None:
    """A process that left its group and parent and ignores signals ends too; the cgroups are gone."""
    async with Sandbox(name) as sandbox:
        assert cgroups(name)
        deaf = "trap '' TERM HUP INT; setsid sh -c 'sleep 1000000' >/dev/null 2>&1 & echo ready"
        assert "ready\n" == await run(*sandbox.inside("sh", "-c", deaf))
        namespace = namespace_of(sandbox.pid)
        assert len(members(namespace)) > 1
    assert not members(namespace)
    assert not cgroups(name)


async def test_a_failure_to_make_one_is_told(name: str) -> None:
    """A cgroup that exists belongs to another program, and stays."""
    async with Sandbox(name):
        with pytest.raises(ProcessError, match=r"(?s)the sandbox cannot be created.*File exists"):
            await Sandbox(name).__aenter__()
        assert cgroups(name)


async def test_a_machine_that_makes_none_is_no_node() -> None:
    """If root in a container may not create a sandbox, the message comes before anything is tried."""
    program = "from playground.node.packages import unmet_requirement; print(unmet_requirement())"
    powerless = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
    assert "\n" == await run(sys.executable, "-c", program)
    assert "unshare failed: Operation not permitted" in await run(*powerless, sys.executable, "-c", program)
    assert not cgroups("saffire-trial-*")


def settings() -> list[str]:
    """Return the settings of the machine's kernel."""
    return [Path("/proc/sys", name).read_text() for name in KERNEL]


def namespace_of(pid: int | str) -> str:
    """Return the PID namespace of a process; `""` if it has ended, or belongs to another user."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def members(namespace: str) -> list[str]:
    """Return the processes of a PID namespace."""
    return [folder.name for folder in Path("/proc").glob("[0-9]*") if namespace_of(folder.name) == namespace]
