"""
Growth: storms of up to 5,000 workloads, and one with two and with three instances of Saffire.

Each workload has two pods, so few pods can share a decision. The cost of a workload must not depend on how many there
are. Baselines are those of the storm: the same Events, delivered to a function that does nothing, and the same patches,
sent by a script.

Several instances share the Events as the subscribers of a Broker do: an instance that has answered gets the next one.
Each workload must still be patched only once. The baseline is one instance in the same run.
"""

import functools
from collections.abc import AsyncIterator

from bench.figures.storm import NEEDED
from bench.harness.fixtures import Size
from bench.harness.outage import Storm, run_storm
from bench.report.result import Options, Result

NAME = "growth"
WORKLOADS = (100, 1000, 5000)
COMPARED = 1000
"""The storm with which larger ones, and storms of several instances, are compared."""
INSTANCES = (2, 3)
RATIO, FLAT, REQUESTS, MEMORY = 1.2, 1.2, 3.1 / NEEDED, 60
"""The targets: three ratios to a baseline (time, time per workload, requests), and MiB over idle."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Run the storms, and yield their results."""
    compared: Storm | None = None
    for workloads, instances in [(count, 1) for count in WORKLOADS] + [(COMPARED, count) for count in INSTANCES]:
        name = f"{workloads:,} workloads of 2 pods" + (f", {instances} instances" if instances > 1 else "")
        if options.match in name:
            options.say(f"growth: {name}")
            size = Size(namespaces=workloads // 10, workloads=10, pods=2)
            storm = await run_storm(size, options.say, instances=instances)
            for result in results(name, size, storm, compared, instances):
                yield result
            if (workloads, instances) == (COMPARED, 1):
                compared = storm


def results(name: str, size: Size, storm: Storm, compared: Storm | None, instances: int = 1) -> list[Result]:
    """
    Return the results of a storm.

    Args:
        name: of the storm.
        size: of the storm.
        storm: what was measured.
        compared: the storm of a thousand workloads and one instance, if it was measured before.
        instances: how many instances of Saffire took part.

    """
    about = functools.partial("{}: {}, {}".format, NAME, name)
    repeated = Result(figure=about("patches beyond one each"), unit="", value=storm.repeated_patches, target=0)
    if instances > 1:
        baseline = compared.seconds if compared else None
        target = 1.0 if compared else None
        moved = Result(
            figure=about("last workload patched"), unit="s", value=storm.seconds, baseline=baseline, target=target
        )
        return [moved, repeated]
    is_small = size.all_workloads < COMPARED
    return [
        Result(
            figure=about("last workload patched"),
            unit="s",
            value=storm.seconds,
            baseline=storm.delivery + storm.patches,
            target=None if is_small else RATIO,
        ),
        Result(
            figure=about("seconds per 1,000 workloads"),
            unit="s",
            value=storm.seconds / size.all_workloads * COMPARED,
            baseline=compared.seconds if compared else None,
            target=FLAT if compared else None,
        ),
        Result(
            figure=about("API requests per workload"),
            unit="",
            value=storm.requests.total() / size.moving,
            baseline=NEEDED,
            target=REQUESTS,
        ),
        Result(figure=about("peak memory over idle"), unit="MiB", value=storm.memory, target=MEMORY),
        repeated,
    ]
