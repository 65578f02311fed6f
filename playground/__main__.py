"""The command line of the playground: `python -m playground --help`."""

import argparse
import asyncio
import io
import os
import shutil
import sys
from pathlib import Path

from playground.cluster.binaries import CONTROL_PLANE, KUBELET, UnavailableError, find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.cluster.processes import ProcessError
from playground.demo.run import Demo
from playground.demo.timeline import Terminal
from playground.eventsource.send import EXAMPLE, SendError, send
from playground.node.packages import unmet_requirement
from playground.node.realnode import NodeError

FALLBACK_SIZE = (80, 24)
"""Columns and lines where there is no terminal."""

MIN_WIDTH = 60
"""In a narrower terminal, lines wrap."""


def main() -> int:
    """Run the command of the command line; return the exit status."""
    options = _parser().parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these characters shows the others
    try:
        status: int = options.run(options)
    except (UnavailableError, NodeError, ProcessError, SendError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m playground", description="Run Saffire against a Kubernetes control plane in processes."
    )
    commands = parser.add_subparsers(required=True)
    binaries = commands.add_parser("binaries", help="fetch its programs, and a node's if this machine can run one")
    binaries.set_defaults(run=_binaries)
    up = commands.add_parser("up", help="run it until Ctrl-C, and print its kubeconfig")
    up.set_defaults(run=lambda _: asyncio.run(_up(ControlPlane(find_binaries()))))
    demo = commands.add_parser("demo", help="kill a registry in it, and watch Saffire move the workloads")
    demo.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    demo.add_argument("--without-saffire", action="store_true", help="see what happens to the workloads without it")
    nodes = demo.add_mutually_exclusive_group()
    nodes.add_argument("--real", action="store_true", help="insist on real nodes and registries; needs root and Linux")
    nodes.add_argument("--simulated", action="store_true", help="simulate them even if this machine can run real ones")
    demo.set_defaults(run=_demo)
    send = commands.add_parser("send", help="post an Event to Saffire, as Knative's ApiServerSource would")
    send.add_argument("file", nargs="?", default=EXAMPLE, type=Path, help="the Event as JSON; an example if not given")
    send.add_argument("--to", default="http://127.0.0.1:8080/", metavar="URL", help="default: %(default)s")
    send.set_defaults(run=_send)
    return parser


def _binaries(_: argparse.Namespace) -> int:
    runs_node = os.environ.get("CI") == "true" or not unmet_requirement()  # in CI, the tests install what is missing
    names = (*CONTROL_PLANE, KUBELET) if runs_node else CONTROL_PLANE
    print(*find_binaries(names).values(), sep="\n")
    return 0


def _demo(options: argparse.Namespace) -> int:
    why_simulated = "--simulated asks for that" if options.simulated else _why_no_real_node()
    if options.real and why_simulated:
        raise NodeError(why_simulated)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    terminal = Terminal(colour=colour, width=max(MIN_WIDTH, shutil.get_terminal_size(FALLBACK_SIZE).columns))
    demo = Demo(find_binaries(), terminal, why_simulated=why_simulated)
    return asyncio.run(demo.run(with_saffire=not options.without_saffire, keep=options.keep))


def _why_no_real_node() -> str:
    """Return why this machine cannot run a real node; `""` if it can."""
    if requirement := unmet_requirement():
        return requirement
    try:
        find_binaries([KUBELET])
    except UnavailableError as error:
        return str(error).splitlines()[0].rstrip(":")
    return ""


def _send(options: argparse.Namespace) -> int:
    answer = send(options.file, options.to)
    print(f"{answer.status} {answer.text}")
    return 0 if answer.accepted else 1


async def _up(plane: ControlPlane) -> int:
    async with plane:
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
