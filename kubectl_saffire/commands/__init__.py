"""
The commands: a module each, with `HELP`, `EXAMPLES`, `add` and `run`.

`add(parser)` adds the arguments of the command. `run(arguments, session)` carries the command out and returns the exit
status. A new command is a new module and one line here.
"""

import argparse
from typing import Protocol

from kubectl_saffire.commands import copy_plan, drill, init, report, status, why
from kubectl_saffire.session import Session


class Command(Protocol):
    """What a module of a command has."""

    HELP: str
    """What the command does, in one line."""
    EXAMPLES: str
    """Commands to type, each with a comment; the end of `--help`."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""

    async def run(self, arguments: argparse.Namespace, session: Session) -> int:
        """Carry the command out; return the exit status."""


COMMANDS: dict[str, Command] = {
    "drill": drill,
    "why": why,
    "status": status,
    "report": report,
    "init": init,
    "copy-plan": copy_plan,
}
"""By the name that a user types."""
