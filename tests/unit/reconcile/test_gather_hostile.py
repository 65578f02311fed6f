"""A pod of hundreds of containers, and sources of thousands of entries, keep no other namespace waiting."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from kubernetes.aio.client import Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.owners import OwnerLookup
from saffire.kube.resources import Cluster
from saffire.policy.decide import Gathered
from saffire.pulls.failure import FailingPod, find_pull_failures
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.reconcile.gather import Decisions
from saffire.registry.check import ImageChecker
from saffire.sources.candidates import parse_valid
from saffire.sources.spec import Source
from testkit.builders import NOW
from testkit.check_registry import transport
from testkit.hostile_corpus import SHAPES, Shape, failing_pod, sources
from testkit.watchdog import Steps, longest_step, yardstick

SHORT = 0.05
# A question takes a third of a millisecond, and each image has 32 of them.
ASKED = 60


@asynccontextmanager
async def decisions(applied_sources: tuple[Source, ...]) -> AsyncIterator[Decisions]:
    """Yield decisions about pods without owners, in a namespace with these sources."""
    server = ApiServer(Configuration(), timeout_seconds=5)
    cluster = Cluster(server, Kinds())
    gathered = Gathered(namespace={"metadata": {"name": "shop"}}, pod={}, sources=applied_sources)
    async with ImageChecker(transport()) as registries:
        lookup = Lookup(cache=LookupCache(cluster, registries, budget_seconds=SHORT), namespace="shop")
        faults = FaultLookup(lookup=lookup, answered_at={}, now=NOW)
        yield Decisions(gathered=gathered, owners=OwnerLookup(cluster, "shop"), lookup=lookup, faults=faults, now=NOW)
    await server.close()


async def longest(applied_sources: tuple[Source, ...], failing: FailingPod) -> Steps:
    """Return the steps towards a plan for each failure of the pod, by what a new repair knows."""
    async with decisions(applied_sources) as deciding:

        async def decide() -> None:
            lookup = Lookup(cache=deciding.lookup.cache, namespace="shop")
            faults = FaultLookup(lookup=lookup, answered_at={}, now=NOW)
            [outcome] = await replace(deciding, lookup=lookup, faults=faults).decide([failing])
            assert len(failing.failures) == len(outcome.plans)

        return await longest_step(decide)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
async def test_300_containers_keep_no_other_task_waiting(shape: Shape) -> None:
    """No step towards the plans takes longer than 20 ms of work, however many equivalents an image has."""
    pod = failing_pod(shape)
    failing = FailingPod(pod=pod, failures=find_pull_failures(pod))
    steps = await longest(parse_valid(sources(shape, verification="Off", trigger="AnyFailure")), failing)
    assert steps.longest <= 2 * yardstick(), steps


async def test_thousands_of_questions_keep_no_other_task_waiting() -> None:
    """Saffire may not ask at these addresses, so that each question is answered as soon as it is made."""
    pod = failing_pod(refused)
    failing = FailingPod(pod=pod, failures=find_pull_failures(pod)[:ASKED])
    steps = await longest(parse_valid(sources(refused)), failing)
    assert steps.longest <= 2 * yardstick(), steps


def refused(source: int, position: int, entry: int) -> str:
    """Return the repositories of registries on loopback, which all equivalents of an image have."""
    return f"127.0.{source}.{entry}:5000/in-{position}/*" if entry else "quay.io/acme/*"
