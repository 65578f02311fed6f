"""
A sandbox: processes that leave nothing behind, however they or their owner end.

They have their own PID and mount namespaces. When the first process of a PID namespace ends, the kernel ends all the
others. A mount namespace without processes is removed with its mounts: /run and /var in there are not the machine's.
`sandbox_init` is that first process; it also removes the cgroups. It ends when its input ends, a pipe that only the
owner holds open, so it also cleans up after an owner that was killed.
"""

import os
import sys
from pathlib import Path
from subprocess import DEVNULL, run

from playground.cluster.processes import TiedProcess

_INIT = Path(__file__).with_name("sandbox_init.py")


def unmet_requirement() -> str:
    """Return the error of creating a sandbox on this machine, which fails in many containers; `""` if there is none."""
    command = _command(f"saffire-trial-{os.getpid()}")
    trial = run(command, stdin=DEVNULL, capture_output=True, text=True, check=False)
    return trial.stderr.strip() if trial.returncode else ""


def _command(cgroup: str) -> tuple[str | Path, ...]:
    return ("unshare", "--mount", "--pid", "--fork", sys.executable, "-I", "-S", _INIT, cgroup)


class Sandbox(TiedProcess):
    """
    A sandbox to run programs in; needs root. Use as an async context manager.

    Leaving it ends whatever still runs inside.

    Args:
        cgroup: the name of the cgroup that is created for it, below the root of each hierarchy.

    """

    def __init__(self, cgroup: str) -> None:
        super().__init__("the sandbox", *_command(cgroup))
        self.cgroup = cgroup

    @property
    def pid(self) -> int:
        """The process id of the first process, outside the sandbox."""
        return int(self.line)

    def inside(self, *command: str | Path) -> tuple[str | Path, ...]:
        """Return the command that runs `command` inside the sandbox, in the folder `/`."""
        return ("nsenter", f"--target={self.pid}", "--mount", "--pid", *command)

    def path(self, inside: str) -> Path:
        """Return the path outside the sandbox of the file that is at `inside` within it."""
        return Path(f"/proc/{self.pid}/root{inside}")
