"""What a sweep's repair of a namespace takes for true; what its patches do is tested on a control plane."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.policy.history import timestamp
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.queue import ReadsUnderWay, Run
from saffire.reconcile.recent_reads import RecentReads
from saffire.reconcile.repair import Repair
from saffire.reconcile.request import WorkItem
from saffire.record.history_audit import Audit
from saffire.record.outcome import RepairOutcome
from saffire.registry.check import ImageChecker
from saffire.sources.index import SourceIndex
from saffire.sources.store import SourceStore
from testkit.builders import FAILING, NOW, SECOND, Object, pod, source, source_manifest, waiting, workload
from testkit.check_registry import transport
from testkit.scripted_api import Answers, scripted_api, status

SHOP = "/apis/{}/namespaces/shop/{}"
OBSERVED = {"mode": "Observe", "verification": "Off"}
NAME = "a-replicaset"
REPLICA_SETS = f"GET {SHOP.format('apps/v1', 'replicasets')}/{NAME}"
REFUSED = "dial tcp 10.0.0.1:443: connect: connection refused"


def listed(*objects: Object) -> list[tuple[int, Any]]:
    """Return the answer of an API server to a list."""
    return [(200, {"metadata": {}, "items": list(objects)})]


def active(api_version: str, kind: str) -> Object:
    """Return an entry of `status.active` for a workload of this kind."""
    group, _, version = api_version.rpartition("/")
    of_kind = {"group": group, "version": version, "kind": kind}
    target = {"name": NAME, "namespace": "shop", "type": of_kind, "container": "web", "uid": "replicaset-uid"}
    return {"target": target, "container": "web", "from": FAILING, "to": SECOND, "since": timestamp(NOW)}


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
            reads=ReadsUnderWay(),
            lookup=Lookup(cache=LookupCache(cluster, registries, budget_seconds=0.5), namespace="shop"),
            item=WorkItem(namespace="shop", whole_namespace=True, audit=True),
            now=NOW,
            seconds=5,
        )
        return await repair.perform(Run())


def audited(outcome: RepairOutcome) -> Audit:
    """Return the audit of a repair that could read everything."""
    assert outcome.audit
    return outcome.audit


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


# What `status.active` says of kinds that a sweep does not list, or cannot list


@pytest.mark.parametrize(
    ("answer", "is_active", "count"),
    [
        pytest.param((200, workload("ReplicaSet", web=SECOND)), True, 1, id="its template is on the alternative"),
        pytest.param((200, workload("ReplicaSet", web=FAILING)), False, 0, id="somebody put it back"),
        pytest.param(status(404, reason="NotFound", details={"name": NAME}), False, 0, id="it is gone"),
        pytest.param(status(403), True, 0, id="it may not be read"),
        pytest.param(status(500), True, 0, id="the API server fails"),
    ],
)
async def test_a_bare_replica_set_without_pods_stays_active(
    tmp_path: Path,
    answer: tuple[int, Any],
    is_active: bool,  # noqa: FBT001 - the row's expectation
    count: int,
) -> None:
    """It may be scaled to 0 for a while. Its new pods will have no history, so nothing else would bring it back."""
    entry = active("apps/v1", "ReplicaSet")
    audit = audited(await sweep(tmp_path, {REPLICA_SETS: [answer]}, entries=[entry]))
    assert (is_active, count) == (audit.is_active(entry), len(audit.active(source())))


async def test_a_foreign_kind_that_cannot_be_listed_keeps_no_entry_of_another_kind(tmp_path: Path) -> None:
    """Kruise has a StatefulSet, too, and its server may be down."""
    kruise = "apps.kruise.io/v1alpha1"
    groups = {"groups": [{"name": "apps.kruise.io", "preferredVersion": {"version": "v1alpha1"}}]}
    lists = {f"GET {SHOP.format(kruise, kind)}": listed() for kind in ("clonesets", "daemonsets")}
    answers = {"GET /apis": [(200, groups)], f"GET {SHOP.format(kruise, 'statefulsets')}": [status(503)], **lists}
    entries = [active("apps/v1", "StatefulSet"), active(kruise, "StatefulSet")]
    audit = audited(await sweep(tmp_path, answers, entries=entries))
    assert [False, True] == [audit.is_active(entry) for entry in entries]
