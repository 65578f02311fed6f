"""What a sweep's repair of a namespace takes for true; what its patches do is tested on a control plane."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.recent_reads import RecentReads
from saffire.reconcile.repair import Repair
from saffire.reconcile.request import WorkItem
from saffire.record.outcome import RepairOutcome
from saffire.registry.check import ImageChecker
from saffire.sources.index import SourceIndex
from saffire.sources.store import SourceStore
from testkit.builders import NOW, Object, pod, source_manifest, waiting
from testkit.check_registry import transport
from testkit.scripted_api import Answers, scripted_api

SHOP = "/apis/{}/namespaces/shop/{}"
OBSERVED = {"mode": "Observe", "verification": "Off"}
REFUSED = "dial tcp 10.0.0.1:443: connect: connection refused"


def listed(*objects: Object) -> list[tuple[int, Any]]:
    """Return the answer of an API server to a list."""
    return [(200, {"metadata": {}, "items": list(objects)})]


async def sweep(
    folder: Path, answers: Answers, *, pods: Iterable[Object] = (), entries: Iterable[Object] = ()
) -> RepairOutcome:
    """
    Return the outcome of a sweep's repair of a namespace with these pods, and entries of `status.active`.

    The API server gives these answers besides those to the lists of a sweep.
    """
    declared = {**source_manifest(**OBSERVED), "status": {"active": list(entries)}}
    given: Answers = {
        "GET /apis": [(200, {"groups": []})],
        f"GET {SHOP.format('saffire.fairwinds.com/v1alpha1', 'alternateimagesources')}": listed(declared),
        "GET /apis/saffire.fairwinds.com/v1alpha1/clusteralternateimagesources": listed(),
        "GET /api/v1/namespaces/shop": [(200, {"metadata": {"name": "shop"}})],
        "GET /api/v1/namespaces/shop/pods": listed(*pods),
        f"GET {SHOP.format('batch/v1', 'cronjobs')}": listed(),
        **{f"GET {SHOP.format('apps/v1', kind)}": listed() for kind in ("deployments", "statefulsets", "daemonsets")},
        **answers,
    }
    async with scripted_api(folder, given) as server, ImageChecker(transport()) as registries:
        cluster = Cluster(server, Kinds())
        repair = Repair(
            cluster=cluster,
            index=SourceIndex(cluster, SourceStore(server)),
            recent=RecentReads(),
            lookup=Lookup(cache=LookupCache(cluster, registries, budget_seconds=0.5), namespace="shop"),
            item=WorkItem(namespace="shop", whole_namespace=True, audit=True),
            now=NOW,
            seconds=5,
        )
        await repair.repair_pods()
        return await repair.repair_namespace()


# Which pods count


@pytest.mark.parametrize(
    ("part", "fields", "expected"),
    [
        pytest.param("status", {"phase": "Pending"}, 1, id="pending"),
        pytest.param("metadata", {"deletionTimestamp": "2026-11-23T01:00:00Z"}, 0, id="terminating"),
        pytest.param("status", {"phase": "Failed"}, 0, id="evicted"),
    ],
)
async def test_a_pod_that_is_ending_is_no_trouble(tmp_path: Path, part: str, fields: Object, expected: int) -> None:
    """If its node is lost, it stays with its last status. It must not keep others from returning, or from probes."""
    stuck = pod(waiting(message=REFUSED))
    outcome = await sweep(tmp_path, {}, pods=[{**stuck, part: {**stuck[part], **fields}}])
    assert outcome.fault is None
    assert (expected, not expected) == (len([plan for plan in outcome.plans if plan.failure]), outcome.is_calm)
