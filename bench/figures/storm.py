"""
The storm: a registry fails under all pods at once, and all of them have to pull again.

Measured is the time from the first Event to the last workload patched. The baseline is the least that it could take:
the same Events, delivered to a function that does nothing, and then the same patches, sent by a script that knows them
beforehand. The first storm, which has targets, runs a few times, and the run with the median ratio counts: on a machine
with other load, one run may take a quarter longer than the next.
"""

import functools
from collections.abc import AsyncIterator

from bench.harness.fixtures import Size
from bench.harness.outage import Storm, run_storm
from bench.report.result import Options, Result

NAME = "storm"
NEEDED = 4
"""Requests for a workload that was not read before: its pod, ReplicaSet and Deployment, and the patch."""

STORMS = {
    "1,000 workloads of 10 pods in 100 namespaces": Size(namespaces=100, workloads=10, pods=10),
    "5,000 pods of one Deployment": Size(namespaces=1, workloads=1, pods=5000),
    "1,000 workloads in one namespace": Size(namespaces=1, workloads=1000, pods=1),
    "100 namespaces, 99 without a source": Size(namespaces=100, workloads=10, pods=2, sourced=1),
}
MAIN = next(iter(STORMS))
LIVE = {"100 workloads of 10 pods, live": Size(namespaces=10, workloads=10, pods=10)}
"""Storms in which nodes and controllers keep running while Saffire repairs."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Run every storm, and yield its results."""
    for name, size in (STORMS | LIVE).items():
        if options.match in name:
            storms = []
            for _ in range(options.runs if name == MAIN else 1):
                options.say(f"storm: {name}")
                storms.append(await run_storm(size, options.say, live=name in LIVE))
            for result in results(name, size, sorted(storms, key=_ratio)[len(storms) // 2]):
                yield result


def _ratio(storm: Storm) -> float:
    return storm.seconds / (storm.delivery + storm.patches)


def results(name: str, size: Size, storm: Storm) -> list[Result]:
    """Return the results of a storm; only the first storm has targets."""
    aims = (1.2, 1.5, 60) if name == MAIN else (None, None, None)
    about = functools.partial("{}: {}, {}".format, NAME, name)
    least = storm.delivery + storm.patches
    results = [
        Result(figure=about("last workload patched"), unit="s", value=storm.seconds, baseline=least, target=aims[0]),
        Result(
            figure=about("API requests per workload"),
            unit="",
            value=storm.requests.total() / size.moving,
            baseline=NEEDED,
            target=aims[1],
        ),
        Result(figure=about("peak memory over idle"), unit="MiB", value=storm.memory, target=aims[2]),
        Result(figure=about("Events answered"), unit="s", value=storm.answered, baseline=storm.delivery),
        Result(figure=about("patches beyond one each"), unit="", value=storm.repeated_patches, target=0),
    ]
    if size.moving < size.all_workloads:
        figure = about("API requests about namespaces without a source")
        results.append(Result(figure=figure, unit="", value=storm.requests_without_source, target=0))
    return results
