"""The plugin reads a whole cluster with few requests, none of which writes, and says what it may not read."""

from pathlib import Path

import pytest

from kubectl_saffire.errors import UsageError
from saffire.errors import RefusedError
from testkit.builders import cluster_source_manifest, source_manifest
from testkit.listed_cluster import ListedCluster, deployed

GROUP = "/apis/saffire.fairwinds.com/v1alpha1"


async def test_a_thousand_workloads_take_few_requests(tmp_path: Path) -> None:
    """Each kind is listed once, page by page: no request is for an owner, a source or a namespace alone."""
    sources = [{**cluster_source_manifest(), "metadata": {"name": "all", "uid": "all", "generation": 1}}]
    workloads = [
        manifest
        for number in range(1000)
        for manifest in deployed(f"web-{number}", namespace=f"team-{number % 50}", pods=1)
    ]
    cluster = ListedCluster([*sources, *workloads])
    async with cluster.session(tmp_path, "drill", "quay.io") as typed:
        assert 0 == await typed.run()
    assert "1000 containers would move and 0 would hang" in typed.out
    assert cluster.requests.total() <= 20, cluster.requests


async def test_owners_that_no_list_shows_are_read_by_name(tmp_path: Path) -> None:
    """If the user may read an object and not list its kind, the drill takes longer and says the same."""
    cluster = ListedCluster([source_manifest(), *deployed("web")])
    cluster.denied = {"/apis/apps/v1/replicasets", "/apis/apps/v1/deployments"}
    async with cluster.session(tmp_path, "drill", "quay.io") as typed:
        assert 0 == await typed.run()
    assert "Deployment/web" in typed.out
    assert 1 == cluster.requests["GET /apis/apps/v1/namespaces/shop/deployments/web"]


async def test_a_user_who_may_not_list_pods_is_told_what_to_type(tmp_path: Path) -> None:
    """One namespace may be readable."""
    cluster = ListedCluster([])
    cluster.denied = {"/api/v1/pods"}
    async with cluster.session(tmp_path, "drill", "quay.io") as typed:
        with pytest.raises(UsageError, match="-n NAMESPACE"):
            await typed.run()


async def test_what_the_user_may_not_read_is_told(tmp_path: Path) -> None:
    """Saffire may read it, so its decision may differ."""
    cluster = ListedCluster([source_manifest(), *deployed("web")])
    cluster.denied = {
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/namespaces/shop/deployments/web",
        "/api/v1/namespaces",
        "/api/v1/namespaces/shop",
        "/apis/batch/v1/cronjobs",
    }
    async with cluster.session(tmp_path, "drill", "quay.io") as typed:
        assert 1 == await typed.run()
    assert "OwnerNotReadable" in typed.out
    for words in ("objects of the kind Deployment", "Namespaces", "CronJobs"):
        assert f"you may not read {words}" in typed.err


async def test_the_connection_refuses_to_write(tmp_path: Path) -> None:
    """No code that the plugin uses can change the cluster: nothing is even sent."""
    cluster = ListedCluster([])
    async with cluster.session(tmp_path, "status") as typed:
        server = typed.session.server
        with pytest.raises(RefusedError, match="only reads"):
            await server.post("/api/v1/namespaces/shop/events", {})
        with pytest.raises(RefusedError, match="only reads"):
            await server.patch("/api/v1/namespaces/shop/pods/web-0", ())
    assert not cluster.requests
