"""Programs that run to their end, and tell what they print."""

import asyncio
import os
from asyncio import subprocess
from pathlib import Path


class CommandError(Exception):
    """A program ended with another status than 0; the message shows what it said."""


async def run(*command: str | Path, **environ: str) -> str:
    """Return what `command` prints, with `environ` added to its environment; raise `CommandError` if it fails."""
    process = await subprocess.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environ,
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        said = (errors or output).decode(errors="replace").strip()
        raise CommandError(f"{' '.join(map(str, command))} ended with status {process.returncode}: {said}")
    return output.decode()
