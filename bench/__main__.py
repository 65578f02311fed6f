"""Runs the benchmarks: `python -m bench --help`."""

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.catalogue import FIGURES
from bench.figures import soak
from bench.report.latest import FOLDER, Run, read, write
from bench.report.machine import machine, versions
from bench.report.result import Options, Result
from bench.report.table import plain
from playground.cluster.binaries import UnavailableError
from playground.cluster.processes import ProcessError
from playground.node.realnode import NodeError


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    if sys.argv[1:2] == ["soak"]:
        return soak.main(sys.argv[2:])
    options = _parser().parse_args()
    try:
        try:
            if not options.pages:
                asyncio.run(_measure(options))
        finally:
            _write_pages(options.into)
    except (UnavailableError, NodeError, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures Saffire, each number beside a baseline of the same run.",
        epilog="Half an hour of load, with memory watched, is a command of its own: python -m bench soak --help.",
    )
    parser.add_argument(
        "--only", action="append", choices=FIGURES, help="measure this figure; may be given several times; default: all"
    )
    parser.add_argument(
        "--runs", type=_count, help="how often a figure repeats its measurement; default: the figure's own number"
    )
    parser.add_argument(
        "--match", default="", metavar="TEXT", help="measure only the parts of a figure that have TEXT in their name"
    )
    parser.add_argument(
        "--into",
        type=Path,
        default=FOLDER,
        metavar="FOLDER",
        help="where results and pages are written; default: %(default)s",
    )
    parser.add_argument(
        "--pages", action="store_true", help="measure nothing; write plots and pages from the kept results"
    )
    return parser


def _count(text: str) -> int:
    """Return a number of runs; raise `ValueError` if it is below one."""
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


async def _measure(chosen: argparse.Namespace) -> None:
    """Measure the figures, keep each result as soon as it is known, and print all of them at the end."""
    run = Run(machine=machine(), versions=await versions(), now=datetime.now(UTC))
    results_of_run: list[Result] = []
    try:
        for name in chosen.only or FIGURES:
            results: list[Result] = []
            options = Options(runs=chosen.runs or FIGURES[name].runs, match=chosen.match, say=_say)
            async for result in FIGURES[name].measure(options):
                results.append(result)
                results_of_run.append(result)
                write(read(chosen.into).merged(results, run), chosen.into)
            whole = () if options.match else (name,)
            write(read(chosen.into).merged(results, run, whole), chosen.into)
    finally:
        print(*plain(results_of_run), sep="\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write_pages(folder: Path) -> None:
    results = read(folder).results
    for figure in FIGURES.values():
        for name, text in figure.pages(results).items():
            (folder / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
