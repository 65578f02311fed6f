"""Runs parts of the playground by hand: `python -m playground --help`."""

import argparse
import asyncio
import sys

from playground.binaries import UnavailableError, find
from playground.controlplane import ControlPlane
from playground.processes import ProcessError


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m playground", description="A Kubernetes control plane in processes."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("binaries", help="fetch its programs, and print where they are")
    commands.add_parser("up", help="run it until Ctrl-C, and print its kubeconfig")
    command = parser.parse_args().command
    try:
        paths = find()
        if command == "up":
            asyncio.run(_up(ControlPlane(paths)))
    except (UnavailableError, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if command == "binaries":
        print(*paths.values(), sep="\n")
    return 0


async def _up(plane: ControlPlane) -> None:
    async with plane:
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
