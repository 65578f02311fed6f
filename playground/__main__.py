"""Runs parts of the playground by hand: `python -m playground --help`."""

import argparse
import asyncio
import io
import os
import sys
from pathlib import Path

from playground.cluster.binaries import CONTROL_PLANE, KUBELET, UnavailableError, find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.cluster.processes import ProcessError
from playground.demo.run import Demo
from playground.demo.timeline import Paint
from playground.eventsource.send import EXAMPLE, SendError, send
from playground.node.packages import unmet_requirement
from playground.node.realnode import NodeError


def main() -> int:
    """Do what the command line says; return the exit status."""
    options = _parser().parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these letters still shows the rest
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
        prog="python -m playground", description="A Kubernetes control plane in processes."
    )
    commands = parser.add_subparsers(required=True)
    binaries = commands.add_parser("binaries", help="fetch its programs, a node's where this can be one")
    binaries.set_defaults(run=_binaries)
    up = commands.add_parser("up", help="run it until Ctrl-C, and print its kubeconfig")
    up.set_defaults(run=lambda _: asyncio.run(_up(ControlPlane(find_binaries()))))
    demo = commands.add_parser("demo", help="let a registry die in it, and watch Saffire")
    demo.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    demo.add_argument("--without-saffire", action="store_true", help="see what becomes of the workloads then")
    nodes = demo.add_mutually_exclusive_group()
    nodes.add_argument("--real", action="store_true", help="insist on real nodes and registries, as root on Linux")
    nodes.add_argument("--played", action="store_true", help="play them also where real ones can be had")
    demo.set_defaults(run=_demo)
    send = commands.add_parser("send", help="post an Event to Saffire, as Knative's event source would")
    send.add_argument("file", nargs="?", default=EXAMPLE, type=Path, help="the Event as JSON; an example if not given")
    send.add_argument("--to", default="http://127.0.0.1:8080/", metavar="URL", help="default: %(default)s")
    send.set_defaults(run=_send)
    return parser


def _binaries(_: argparse.Namespace) -> int:
    is_node = os.environ.get("CI") == "true" or not unmet_requirement()  # in CI, it becomes one
    wanted = (*CONTROL_PLANE, KUBELET) if is_node else CONTROL_PLANE
    print(*find_binaries(wanted).values(), sep="\n")
    return 0


def _demo(options: argparse.Namespace) -> int:
    unreal = "--played asks for that" if options.played else _obstacle()
    if options.real and unreal:
        raise NodeError(unreal)
    paint = Paint(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    demo = Demo(find_binaries(), paint, unreal=unreal)
    return asyncio.run(demo.play(with_saffire=not options.without_saffire, keep=options.keep))


def _obstacle() -> str:
    """Return why there can be no real node; `""` if there can."""
    if lack := unmet_requirement():
        return lack
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
