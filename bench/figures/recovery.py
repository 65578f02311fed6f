"""
Recovery on a real node: how long each kind of workload waits, from its first failed pull until it is back.

Beside each row stands what the same patches bring by hand. Trials of both take turns, so that whatever else the machine
does meets both alike.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from bench.harness import env_node
from bench.harness.env_node import NodeEnvironment
from bench.harness.percentiles import percentile
from bench.harness.recovery_trial import CROWD, Cost, Trial, attempt
from bench.report.result import Better, Options, Result
from testkit.node.recovery_rows import ROWS, Row

NAME = "recovery"
TARGETS = {50: 1.2, 95: 1.5}
"""The ratio to reach, by percentile."""

PATCHED = "first patch, p50"
"""What part of the way is whoever patches: the rest is Kubernetes'. It has no target of its own here."""

LANES = 2
"""
How many rows are played at a time; those of a crowd have the node for themselves.

On two cores, more of them take time from each other: by hand, StatefulSets took 2.35 s alone and 2.55 s four at a time.
"""

COSTS: dict[str, tuple[str, str, Better]] = {
    "freed": ("s", "until the five are free", "lower"),
    "settled": ("s", "until all is settled", "lower"),
    "fewest": ("pods", "fewest ready", "higher"),
    "replaced": ("pods", "healthy ones replaced", "lower"),
    "restarted": ("times", "containers restarted", "lower"),
}
"""What a crowd is measured for besides, by field: unit, name, and which way is better."""

Trials = dict[bool, list[Trial]]
"""By whether Saffire moved it."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Play the rows, as often as is said, and yield what each brought."""
    chosen = {name: row for name, row in ROWS.items() if options.match in name}
    crowds = {name: row for name, row in chosen.items() if row.pods > CROWD}
    async with env_node.opened() as opened:
        for names, lanes in ((chosen.keys() - crowds.keys(), LANES), (crowds.keys(), 1)):
            rows = {name: row for name, row in chosen.items() if name in names}
            async for name, trials in _played(rows, opened, options, lanes):
                for result in results(name, trials):
                    yield result


async def _played(
    rows: dict[str, Row], opened: NodeEnvironment, options: Options, lanes: int
) -> AsyncIterator[tuple[str, Trials]]:
    """Play rows, `lanes` at a time, and yield each as it is done; raise what kept any from being played in the end."""
    free = asyncio.Semaphore(lanes)

    async def play(name: str, row: Row) -> tuple[str, Trials]:
        async with free:
            return name, await _trials(name, row, opened, options)

    tasks = [asyncio.create_task(play(name, row)) for name, row in rows.items()]
    faults: list[Exception] = []
    try:
        for task in asyncio.as_completed(tasks):
            try:
                done = await task
            except Exception as error:  # noqa: BLE001 -- half an hour of other rows is not to be lost for it
                options.say(f"a row could not be played: {error!r}")
                faults.append(error)
            else:
                yield done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if faults:
        raise ExceptionGroup("rows that could not be played", faults)


async def _trials(name: str, row: Row, opened: NodeEnvironment, options: Options) -> Trials:
    trials: Trials = {True: [], False: []}
    for run in range(options.runs):
        for with_saffire in (True, False) if run % 2 else (False, True):
            trials[with_saffire].append(await attempt(row, opened, with_saffire=with_saffire))
        took = ", ".join(
            f"{trials[by_saffire][-1].back:.2f} s {'by Saffire' if by_saffire else 'by hand'}" for by_saffire in trials
        )
        options.say(f"{name}, run {run + 1} of {options.runs}: {took}")
    return trials


def results(name: str, trials: Trials) -> Iterator[Result]:
    """Yield what a row's trials come to."""
    for percent, target in TARGETS.items():
        value, baseline = (
            percentile([trial.back for trial in trials[by_saffire]], percent) for by_saffire in (True, False)
        )
        yield Result(figure=figure(name, f"p{percent}"), unit="s", value=value, baseline=baseline, target=target)
    value, baseline = (percentile([trial.patched for trial in trials[by_saffire]], 50) for by_saffire in (True, False))
    yield Result(figure=figure(name, PATCHED), unit="s", value=value, baseline=baseline)
    costs = {by_saffire: [trial.crowd for trial in trials[by_saffire] if trial.crowd] for by_saffire in trials}
    if all(costs.values()):
        yield from _costs(name, costs)


def _costs(name: str, costs: dict[bool, list[Cost]]) -> Iterator[Result]:
    for field, (unit, what, better) in COSTS.items():
        value, baseline = (
            percentile([getattr(cost, field) for cost in costs[by_saffire]], 50) for by_saffire in (True, False)
        )
        yield Result(figure=figure(name, what), unit=unit, value=value, baseline=baseline, better=better)


def figure(row: str, what: str) -> str:
    """Return the name of a result."""
    return f"{NAME}: {row}, {what}"
