"""
The first process of a sandbox: it mounts private folders for what runs inside, and cleans up at the end.

`unshare` runs it in new PID and mount namespaces. It prints its process id once the sandbox is ready. Then it waits for
its input to end: either the owner has closed it, or the owner is dead. In both cases it ends whatever runs inside, and
removes the cgroups, which the kernel would keep. The kernel removes the mounts with their namespace.

It imports only the standard library, so it starts at once.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

POLL_SECONDS = 0.01
BUSY_SECONDS = 10

CGROUPS = Path("/sys/fs/cgroup")

KERNEL = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "net/ipv4/ip_forward": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}
"""Kernel settings that kubelets and network plugins require. They are set inside, and the machine's stay unchanged."""


def main(cgroup: str) -> None:
    """Prepare the sandbox, wait, and clean up."""
    own_pid = Path("/proc/self").readlink().name  # outside the new PID namespace: /proc is still the machine's
    _mount_private_folders()
    with ExitStack() as cleanup:
        for controller in _disabled_controllers():
            cleanup.callback(_switch_controller, f"-{controller}")
            _switch_controller(f"+{controller}")
        for hierarchy in _hierarchies():
            (hierarchy / cgroup).mkdir()
            cleanup.callback(_remove, hierarchy / cgroup)
        cleanup.callback(_end_all)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps orphans
        print(own_pid, flush=True)
        sys.stdin.read()


def _mount_private_folders() -> None:
    """Mount the sandbox's own /proc, and a /run and a /var whose changes are kept in memory."""
    _mount("--make-rshared", "/")
    _mount("--types=proc", "sandbox", "/proc")
    _mount("--types=tmpfs", "--options=mode=755", "sandbox", "/run")
    upper, work, kernel = (Path("/run/sandbox", name) for name in ("var", "work", "kernel"))
    upper.mkdir(parents=True)
    work.mkdir()
    _mount("--types=overlay", f"--options=lowerdir=/var,upperdir={upper},workdir={work}", "sandbox", "/var")
    for name, value in KERNEL.items():
        (kernel / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / name).write_text(value)
        _mount("--bind", str(kernel / name), f"/proc/sys/{name}")


def _mount(*arguments: str) -> None:
    subprocess.run(("mount", "--no-mtab", *arguments), check=True)  # noqa: S607 -- root's PATH is trusted


def _hierarchies() -> list[Path]:
    """Return the roots of the machine's cgroup hierarchies: one in version 2, one per controller in version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _disabled_controllers() -> set[str]:
    """Return the controllers of cgroup version 2 that a kubelet needs and that are not enabled yet."""
    if not (CGROUPS / "cgroup.controllers").exists():
        return set()
    present, enabled = ((CGROUPS / f"cgroup.{name}").read_text().split() for name in ("controllers", "subtree_control"))
    return set(present) - set(enabled)


def _switch_controller(change: str) -> None:
    """Enable (`+`) or disable (`-`) a controller; an error, such as that others use it now, is ignored."""
    with suppress(OSError):
        (CGROUPS / "cgroup.subtree_control").write_text(change)


def _end_all() -> None:
    """Kill every process of the sandbox, again and again until there is none."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(POLL_SECONDS)


def _remove(cgroup: Path) -> None:
    """Remove a cgroup and those below it; a cgroup is busy for a moment after its processes have ended."""
    deadline = time.monotonic() + BUSY_SECONDS
    for path, _, _ in os.walk(cgroup, topdown=False):
        while True:
            try:
                Path(path).rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            else:
                break
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
