"""A command that is still to be written."""

import argparse

from kubectl_saffire.session import Session

HELP = "still to be written"
EXAMPLES = ""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults()


async def run(arguments: argparse.Namespace, session: Session) -> int:
    """Carry the command out; return the exit status."""
    session.screen.line(f"still to be written: {arguments}")
    return 0
