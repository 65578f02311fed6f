"""`status` is one screen: sources, the newest failovers, and what hangs now."""

from pathlib import Path

from testkit.builders import FAILING, SECOND, Object, cluster_source_manifest, source_manifest
from testkit.listed_cluster import ListedCluster, deployed

TARGET = {
    "namespace": "shop",
    "name": "web",
    "type": {"kind": "Deployment"},
    "container": "web",
    "uid": "deployment-shop-web",
}
SWITCH = {"time": "2026-11-23T02:00:00Z", "oldImage": FAILING, "newImage": SECOND, "target": TARGET}
CONDITIONS = [
    {"type": "Accepted", "status": "True"},
    {"type": "Ready", "status": "False", "message": "ghcr.io lacks acme/api"},
]


async def shown(folder: Path, objects: list[Object], *denied: str) -> tuple[str, str]:
    """Return what `status` writes to the screen, and its warnings."""
    cluster = ListedCluster(objects)
    cluster.denied = set(denied)
    async with cluster.session(folder, "status") as typed:
        assert 0 == await typed.run()
    assert {"GET"} == {request.partition(" ")[0] for request in cluster.requests}
    return typed.out, typed.err


async def test_a_calm_cluster(tmp_path: Path) -> None:
    """Each source is a line, with what its status says; nothing hangs."""
    status = {"conditions": CONDITIONS, "active": [{"target": TARGET, "container": "web"}], "switches": [SWITCH]}
    wide = {**cluster_source_manifest(name="all"), "spec": {**cluster_source_manifest()["spec"], "mode": "Observe"}}
    out, _ = await shown(tmp_path, [{**source_manifest(), "status": status}, wide, *deployed("web", SECOND)])
    expected = f"""\
NAMESPACE  SOURCE  MODE     ACCEPTED  READY  ACTIVE  STUCK
shop       shop    Enforce  True      False  1       0
  Ready: ghcr.io lacks acme/api
(all)      all     Observe  -         -      0       0

NEWEST FAILOVERS
  2026-11-23T02:00:00Z shop moved Deployment/web web
    {FAILING} -> {SECOND}

nothing hangs: no pod waits for an image that cannot be pulled
"""
    assert expected == out


async def test_what_hangs_is_named_with_its_next_step(tmp_path: Path) -> None:
    """If Saffire says why it left a container, its words are shown; else those of the diagnosis."""
    entry = {
        "target": TARGET,
        "container": "web",
        "image": FAILING,
        "reason": "Paused",
        "message": "set mode: Enforce",
        "since": "2026-11-23T01:00:00Z",
    }
    status = {"left": [entry], "leftCount": 7}
    objects = [{**source_manifest(), "status": status}, *deployed("web", fails=True), *deployed("api", fails=True)]
    out, _ = await shown(tmp_path, objects)
    assert "shop       shop    Enforce  -         -      0       7" in out
    text = " ".join(out.split())
    assert f"since 2026-11-23T01:00:00Z: web with {FAILING}: Paused: set mode: Enforce" in text
    assert f"{FAILING}: quay.io refused the connection" in text
    assert "$ kubectl saffire why pod/api-1-0 -n shop" in out
    assert "2 containers hang" in out


async def test_no_source_is_told(tmp_path: Path) -> None:
    """Who has just installed Saffire is told how to go on."""
    out, _ = await shown(tmp_path, [])
    assert "kubectl saffire init" in out


async def test_who_may_not_see_cluster_wide_sources_sees_the_others(tmp_path: Path) -> None:
    """A warning says so."""
    path = "/apis/saffire.fairwinds.com/v1alpha1/clusteralternateimagesources"
    out, err = await shown(tmp_path, [source_manifest()], path)
    assert "shop" in out
    assert "you may not list ClusterAlternateImageSources" in err


async def test_a_status_of_any_shape_is_shown(tmp_path: Path) -> None:
    """Another writer may have left anything there."""
    odd = {
        "conditions": [7, {"type": 1, "status": "\x1b[2J"}],
        "active": "x",
        "switches": [{"time": 3}],
        "leftCount": "many",
    }
    out, _ = await shown(tmp_path, [{**source_manifest(), "status": odd}])
    assert "shop" in out
    assert out.replace("\n", "").isprintable()
