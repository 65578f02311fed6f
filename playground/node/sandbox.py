"""
An enclosure: processes that cannot leave anything behind, however they or their owner end.

They have PID and mount namespaces of their own. When the first process of a PID namespace ends, the kernel ends all the
others, and a mount namespace without processes is gone with its mounts: /run and /var in there are not the machine's.
`enclosure_init` is that first process, and removes the cgroups. It lives exactly as long as its input, a pipe that only
the owner holds open: it needs no help from an owner that was killed.
"""

import os
import sys
from asyncio import StreamReader, subprocess
from pathlib import Path
from subprocess import DEVNULL, run
from typing import Self, cast

from playground.cluster.processes import ProcessError

_INIT = Path(__file__).with_name("sandbox_init.py")


def unmet_requirement() -> str:
    """Return why this machine makes no enclosure, as containers often do not; `""` if it does."""
    command = _command(f"saffire-trial-{os.getpid()}")
    trial = run(command, stdin=DEVNULL, capture_output=True, text=True, check=False)
    return trial.stderr.strip() if trial.returncode else ""


def _command(cgroup: str) -> tuple[str | Path, ...]:
    return ("unshare", "--mount", "--pid", "--fork", sys.executable, "-I", "-S", _INIT, cgroup)


class Sandbox:
    """
    An enclosure to run programs in; needs root. Use as an async context manager.

    Leaving it ends whatever still runs inside.

    Args:
        cgroup: name of the cgroup that is made for it, below the root of each tree.

    """

    def __init__(self, cgroup: str) -> None:
        self.cgroup = cgroup
        self.pid = 0

    async def __aenter__(self) -> Self:
        self._process = await subprocess.create_subprocess_exec(
            *_command(self.cgroup),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            line = await cast("StreamReader", self._process.stdout).readline()
        except BaseException:
            await self._end()
            raise
        if not line:
            raise ProcessError(f"no enclosure can be made: {await self._end()}")
        self.pid = int(line)
        return self

    async def __aexit__(self, *_: object) -> None:
        errors = await self._end()
        if self._process.returncode:
            raise ProcessError(f"the enclosure leaves something behind: {errors}")

    async def _end(self) -> str:
        """Let everything inside end; return what went wrong."""
        _, errors = await self._process.communicate(b"end")
        return errors.decode(errors="replace").strip()

    def inside(self, *command: str | Path) -> tuple[str | Path, ...]:
        """Return the command that runs `command` in here, in the folder `/`."""
        return ("nsenter", f"--target={self.pid}", "--mount", "--pid", *command)

    def path(self, inside: str) -> Path:
        """Return the path that leads to the file `inside` from without."""
        return Path(f"/proc/{self.pid}/root{inside}")
