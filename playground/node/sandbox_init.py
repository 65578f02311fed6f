"""
The first process of an enclosure: gives what runs inside a world of its own, and cleans up after it.

`unshare` runs it in new PID and mount namespaces. It prints its process id once the enclosure is ready, and then waits
for its input to end: because the owner has closed it, or because the owner is dead. Either way it ends whatever runs
inside, and removes what the kernel would keep: cgroups. Mounts go with their namespace.

It imports nothing but the standard library, and so starts at once.
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
"""What kubelets and network plugins want of the kernel: they find it so in here, and change nothing for all."""


def main(cgroup: str) -> None:
    """Prepare the enclosure, wait, and clean up."""
    own_pid = Path("/proc/self").readlink().name  # as the machine knows it, whose /proc this still is
    _furnish()
    with ExitStack() as made:
        for controller in _dormant_controllers():
            made.callback(_control, f"-{controller}")
            _control(f"+{controller}")
        for hierarchy in _hierarchies():
            (hierarchy / cgroup).mkdir()
            made.callback(_remove, hierarchy / cgroup)
        made.callback(_end_all)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries orphans
        print(own_pid, flush=True)
        sys.stdin.read()


def _furnish() -> None:
    """Give the enclosure its own /proc, and a /run and a /var that take any file and forget it."""
    _mount("--make-rshared", "/")
    _mount("--types=proc", "enclosure", "/proc")
    _mount("--types=tmpfs", "--options=mode=755", "enclosure", "/run")
    upper, work, kernel = (Path("/run/enclosure", name) for name in ("var", "work", "kernel"))
    upper.mkdir(parents=True)
    work.mkdir()
    _mount("--types=overlay", f"--options=lowerdir=/var,upperdir={upper},workdir={work}", "enclosure", "/var")
    for name, value in KERNEL.items():
        (kernel / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / name).write_text(value)
        _mount("--bind", str(kernel / name), f"/proc/sys/{name}")


def _mount(*arguments: str) -> None:
    subprocess.run(("mount", "--no-mtab", *arguments), check=True)  # noqa: S607 -- root's PATH knows best


def _hierarchies() -> list[Path]:
    """Return the roots of the machine's cgroup trees: one, or with version 1 one for each controller."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _dormant_controllers() -> set[str]:
    """Return the controllers that a kubelet misses in cgroups of version 2 because nobody has asked for them yet."""
    if not (CGROUPS / "cgroup.controllers").exists():
        return set()
    present, asked_for = (
        (CGROUPS / f"cgroup.{name}").read_text().split() for name in ("controllers", "subtree_control")
    )
    return set(present) - set(asked_for)


def _control(change: str) -> None:
    """Turn a controller on, where that can be, or off again, unless others have come to need it."""
    with suppress(OSError):
        (CGROUPS / "cgroup.subtree_control").write_text(change)


def _end_all() -> None:
    """Kill every process of the enclosure, again and again until there is none."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(POLL_SECONDS)


def _remove(cgroup: Path) -> None:
    """Remove a cgroup and those below; one whose processes have just ended is busy for a moment."""
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
