"""Runs a program to its end, and returns what it prints."""

import asyncio
import os
from asyncio import subprocess
from pathlib import Path


class CommandError(Exception):
    """A program ended with a status other than 0; the message shows what it printed."""


async def run(*command: str | Path, **environ: str) -> str:
    """Run `command` with `environ` added to its environment; return what it prints, or raise `CommandError`."""
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
        printed = (errors or output).decode(errors="replace").strip()
        raise CommandError(f"{' '.join(map(str, command))} ended with status {process.returncode}: {printed}")
    return output.decode()
