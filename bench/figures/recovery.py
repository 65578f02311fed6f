"""
Recovery on a real node: how long each kind of workload takes from its first failed pull until it has settled.

It has *settled* once all wanted pods are ready on the alternative, and the workload's controller has nothing left to
do. The baseline of each row is the best patches that are known, sent by a script. Trials of both take turns, so that
other load on the machine slows both alike.
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
"""The ratio of the times until a row has settled, by percentile."""

MADE = "most pods made"
"""How many pods there were from first to last, in the trial that had most. Saffire must not need more."""

READY = "first ready, p50"
LOST = "ready pods lost, p50"
PATCHED = "first patch, p50"
"""The part of the time that depends on the sender of the patch; the rest is Kubernetes'."""

_MEDIANS = {READY: ("ready", "s"), LOST: ("lost", "pod-s"), PATCHED: ("patched", "s")}
"""Field of a trial and unit of what has no target of its own."""

ROWS_AT_ONCE = 2
"""
How many rows run at a time; a row of many pods runs alone.

On two cores, more of them slow each other down: sent by the script, the patches of a StatefulSet took 2.35 s alone and
2.55 s four at a time.
"""

COSTS: dict[str, tuple[str, str, Better]] = {
    "freed": ("s", "until the five are free", "lower"),
    "fewest": ("pods", "fewest ready", "higher"),
    "replaced": ("pods", "healthy ones replaced", "lower"),
    "restarted": ("times", "containers restarted", "lower"),
}
"""What is measured besides for a row of many pods, by field: unit, name, and which way is better."""

Trials = dict[bool, list[Trial]]
"""By whether Saffire moved the workload; otherwise the script did."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Run the rows as often as the options say, and yield the results of each."""
    chosen = {name: row for name, row in ROWS.items() if options.match in name}
    crowds = {name: row for name, row in chosen.items() if row.pods > CROWD}
    async with env_node.open_environment(ROWS_AT_ONCE) as environment:
        for names, at_once in ((chosen.keys() - crowds.keys(), ROWS_AT_ONCE), (crowds.keys(), 1)):
            rows = {name: row for name, row in chosen.items() if name in names}
            async for name, trials in _run_rows(rows, environment, options, at_once):
                for result in results(name, trials):
                    yield result


async def _run_rows(
    rows: dict[str, Row], environment: NodeEnvironment, options: Options, at_once: int
) -> AsyncIterator[tuple[str, Trials]]:
    """Run rows, `at_once` at a time, and yield the trials of each. If rows could not be run, raise why at the end."""
    free = asyncio.Semaphore(at_once)

    async def run_row(name: str, row: Row) -> tuple[str, Trials]:
        async with free:
            return name, await _trials(name, row, environment, options)

    tasks = [asyncio.create_task(run_row(name, row)) for name, row in rows.items()]
    faults: list[Exception] = []
    try:
        for task in asyncio.as_completed(tasks):
            try:
                done = await task
            except Exception as error:  # noqa: BLE001 -- half an hour of other rows must not be lost for it
                options.say(f"a row could not be run: {error!r}")
                faults.append(error)
            else:
                yield done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if faults:
        raise ExceptionGroup("rows that could not be run", faults)


async def _trials(name: str, row: Row, environment: NodeEnvironment, options: Options) -> Trials:
    trials: Trials = {True: [], False: []}
    for run in range(options.runs):
        for with_saffire in (True, False) if run % 2 else (False, True):
            trials[with_saffire].append(await attempt(row, environment, with_saffire=with_saffire))
        took = ", ".join(
            f"{trials[by_saffire][-1].settled:.2f} s {'by Saffire' if by_saffire else 'by the baseline'}"
            for by_saffire in trials
        )
        options.say(f"{name}, run {run + 1} of {options.runs}: {took}")
    return trials


def results(name: str, trials: Trials) -> Iterator[Result]:
    """Yield the results of a row's trials."""

    def both(field: str, percent: float) -> tuple[float, float]:
        value, baseline = (
            percentile([getattr(trial, field) for trial in trials[by_saffire]], percent) for by_saffire in (True, False)
        )
        return value, baseline

    for percent, target in TARGETS.items():
        value, baseline = both("settled", percent)
        yield Result(figure=figure(name, settled(percent)), unit="s", value=value, baseline=baseline, target=target)
    value, baseline = both("made", 100)
    yield Result(figure=figure(name, MADE), unit="pods", value=value, baseline=baseline, target=1.0)
    for what, (field, unit) in _MEDIANS.items():
        value, baseline = both(field, 50)
        yield Result(figure=figure(name, what), unit=unit, value=value, baseline=baseline)
    costs = {by_saffire: [trial.crowd for trial in trials[by_saffire] if trial.crowd] for by_saffire in trials}
    if all(costs.values()):
        yield from _costs(name, costs)


def settled(percent: int) -> str:
    """Return what is measured of a row until it has settled."""
    return f"settled, p{percent}"


def _costs(name: str, costs: dict[bool, list[Cost]]) -> Iterator[Result]:
    for field, (unit, what, better) in COSTS.items():
        value, baseline = (
            percentile([getattr(cost, field) for cost in costs[by_saffire]], 50) for by_saffire in (True, False)
        )
        yield Result(figure=figure(name, what), unit=unit, value=value, baseline=baseline, better=better)


def figure(row: str, what: str) -> str:
    """Return the name of a result."""
    return f"{NAME}: {row}, {what}"
