"""What a drill says is what the function decides, for each way in which a container moves or hangs."""

import json
from pathlib import Path
from typing import Any

import pytest

from testkit.builders import FAILING, OPT_OUT, SECOND, Object, annotated, pod, running, source_manifest, workload
from testkit.listed_cluster import ListedCluster, deployed, owned_by, placed

DIGEST = f"sha256:{64 * 'a'}"
QUAY_AND_GHCR = ["quay.io/acme/web", "ghcr.io/acme/web"]


async def drilled(folder: Path, objects: list[Object], *arguments: str) -> dict[str, Any]:
    """Return what a drill of quay.io says of a cluster with these objects; the exit status has to fit it."""
    cluster = ListedCluster(objects)
    async with cluster.session(folder, "drill", "quay.io", *arguments, "-o", "json") as typed:
        status = await typed.run()
    assert {"GET"} == {request.partition(" ")[0] for request in cluster.requests}
    said: dict[str, Any] = json.loads(typed.out)
    assert status == bool(said["hangs"])
    return said


def named(said: dict[str, Any], what: str) -> list[tuple[str, ...]]:
    """Return the workload, and where it moves or why it hangs, of each container that `moves` or `hangs`."""
    return [(entry["workload"], entry["to" if what == "moves" else "reason"]) for entry in said[what]]


async def test_a_workload_moves_with_its_ready_pods(tmp_path: Path) -> None:
    """It is told where to, by which source, how, and how many ready pods the rollout replaces."""
    said = await drilled(tmp_path, [source_manifest(), *deployed("web", pods=3)])
    assert [
        {
            "namespace": "shop",
            "workload": "Deployment/web",
            "container": "web",
            "image": FAILING,
            "pods": ["web-1-0", "web-1-1", "web-1-2"],
            "to": SECOND,
            "by": "AlternateImageSource/shop",
            "strategy": ["template"],
            "proof": "not asked",
            "readyPodsReplaced": 3,
            "note": "",
        }
    ] == said["moves"]
    assert [] == said["hangs"]


@pytest.mark.parametrize(
    ("kind", "spec", "strategy", "replaced"),
    [
        ("Deployment", {"strategy": {"type": "Recreate"}}, ["pods"], 0),
        ("Deployment", {"paused": True}, ["pods", "template"], 0),
        ("StatefulSet", {}, ["template", "pods"], 2),
        ("StatefulSet", {"podManagementPolicy": "Parallel"}, ["pods", "template"], 2),
        ("StatefulSet", {"updateStrategy": {"type": "OnDelete"}}, ["template", "pods"], 0),
        ("DaemonSet", {}, ["template"], 2),
        ("ReplicaSet", {}, ["template", "pods"], 0),
        ("Job", {}, ["pods"], 0),
    ],
)
async def test_each_kind_has_the_steps_and_the_price_of_the_function(
    tmp_path: Path, kind: str, spec: Object, strategy: list[str], replaced: int
) -> None:
    """The table at the top of policy/plan.py holds for a rehearsal, too."""
    top = placed(workload(kind), "web")
    top["spec"] = {**top["spec"], **spec, "replicas": 2}
    top["status"] = {"readyReplicas": 2, "numberReady": 2}
    owner = top
    if kind == "Deployment":
        owner = owned_by(placed(workload("ReplicaSet"), "web-1"), top)
        owner["status"] = {"replicas": 2}
    made = owned_by(placed(pod(running()), "web-0"), owner)
    said = await drilled(tmp_path, [source_manifest(), top, *([owner] if owner is not top else []), made])
    [move] = said["moves"]
    assert (f"{kind}/web", strategy, replaced) == (move["workload"], move["strategy"], move["readyPodsReplaced"])


async def test_the_next_run_of_a_cron_job_moves_too(tmp_path: Path) -> None:
    """A report that runs at night has no pod by day; a CronJob that is suspended has no next run."""
    cron_job, suspended = placed(workload("CronJob"), "report"), placed(workload("CronJob"), "old")
    suspended["spec"] = {**suspended["spec"], "suspend": True}
    said = await drilled(tmp_path, [source_manifest(), cron_job, suspended])
    [move] = said["moves"]
    assert ("CronJob/report", [], ["template", "pods"]) == (move["workload"], move["pods"], move["strategy"])


def opted_out(name: str) -> list[Object]:
    """Return a Deployment that has opted out, and what belongs to it."""
    deployment, *others = deployed(name)
    return [annotated(deployment, OPT_OUT), *others]


def static_pod() -> Object:
    """Return the mirror of a static pod."""
    return placed(
        annotated(pod(running()), {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "y"}), "etcd-node1"
    )


@pytest.mark.parametrize(
    ("objects", "reason", "workload_name", "command"),
    [
        pytest.param(deployed("web"), "NoSource", "Deployment/web", "kubectl saffire init -n shop", id="no source"),
        pytest.param(
            [source_manifest(["quay.io/acme/api", "ghcr.io/acme/api"]), *deployed("web")],
            "RepositoryNotListed",
            "Deployment/web",
            "kubectl edit ais shop -n shop",
            id="not listed",
        ),
        pytest.param(
            [source_manifest(mode="Paused"), *deployed("web")],
            "Paused",
            "Deployment/web",
            """kubectl patch ais shop -n shop --type merge -p '{"spec": {"mode": "Enforce"}}'""",
            id="paused",
        ),
        pytest.param(
            [source_manifest(mode="Observe"), *deployed("web")],
            "Observed",
            "Deployment/web",
            """kubectl patch ais shop -n shop --type merge -p '{"spec": {"mode": "Enforce"}}'""",
            id="observed",
        ),
        pytest.param(
            [source_manifest(), *opted_out("web")],
            "OptedOut",
            "Deployment/web",
            "kubectl annotate deployment web -n shop saffire.fairwinds.com/ignore-",
            id="opted out",
        ),
        pytest.param([source_manifest(), static_pod()], "StaticPod", "Pod/etcd-node1", "", id="static pod"),
    ],
)
async def test_what_would_hang_is_told_with_the_step_that_frees_it(
    tmp_path: Path, objects: list[Object], reason: str, workload_name: str, command: str
) -> None:
    """Each reason has words for a user, and a command where one helps."""
    said = await drilled(tmp_path, objects)
    [hang] = said["hangs"]
    assert (reason, workload_name, command) == (hang["reason"], hang["workload"], hang["command"])
    assert hang["step"]
    assert [] == said["moves"]


async def test_an_alternative_that_is_dead_too_frees_nobody(tmp_path: Path) -> None:
    """If both registries die, the workload hangs, although the function would move it."""
    objects = [source_manifest(QUAY_AND_GHCR), *deployed("web")]
    assert [("Deployment/web", "AlternativeDownToo")] == named(await drilled(tmp_path, objects, "ghcr.io"), "hangs")
    assert [("Deployment/web", SECOND)] == named(await drilled(tmp_path, objects), "moves")


async def test_a_third_registry_is_taken_if_the_second_is_dead_too(tmp_path: Path) -> None:
    """The order of the source counts among those that live."""
    said = await drilled(tmp_path, [source_manifest(), *deployed("web")], "ghcr.io")
    assert [("Deployment/web", "registry.example:5000/mirror/web:1.2")] == named(said, "moves")


async def test_a_strict_source_moves_what_is_taken_as_equal(tmp_path: Path) -> None:
    """Running containers tell the digest that an alternative has to have; without one, Strict proves nothing."""
    strict = source_manifest(verification="Strict")
    assert [("Deployment/web", SECOND)] == named(await drilled(tmp_path, [strict, *deployed("web")]), "moves")
    deployment, replica_set, *pods = deployed("web")
    unknown = [{**made, "status": {}} for made in pods]
    said = await drilled(tmp_path, [strict, deployment, replica_set, *unknown])
    assert [("Deployment/web", "CandidateNotProven")] == named(said, "hangs")


async def test_a_source_without_verification_moves_after_the_next_try(tmp_path: Path) -> None:
    """Some minutes into an outage, the kubelets' next tries have failed, so stuck pods move in place."""
    objects = deployed("web", pods=1)
    objects[2]["status"]["startTime"] = "2026-11-23T01:59:59Z"
    said = await drilled(tmp_path, [source_manifest(verification="Off"), *objects])
    assert [["pods"]] == [move["strategy"] for move in said["moves"]]


async def test_only_what_has_to_be_pulled_counts(tmp_path: Path) -> None:
    """Pods that have ended, images that are never pulled, and ephemeral containers need no registry."""
    ended, kept, debugged = (placed(pod(running()), name) for name in ("ended", "kept", "debugged"))
    ended["status"] = {**ended["status"], "phase": "Succeeded"}
    kept["spec"] = {"containers": [{"name": "web", "image": FAILING, "imagePullPolicy": "Never"}]}
    debugged["spec"] = {
        "containers": [{"name": "web", "image": SECOND}],
        "ephemeralContainers": [{"name": "shell", "image": FAILING}],
    }
    said = await drilled(tmp_path, [source_manifest(), ended, kept, debugged])
    assert ([], []) == (said["moves"], said["hangs"])


async def test_init_containers_and_image_volumes_count(tmp_path: Path) -> None:
    """A new pod pulls them, too; the image of a live pod's volume cannot be changed."""
    made = placed(pod(running(image=SECOND), web=SECOND), "web-0")
    made["spec"] |= {
        "initContainers": [{"name": "init", "image": FAILING}],
        "volumes": [{"name": "data", "image": {"reference": FAILING}}],
    }
    said = await drilled(tmp_path, [source_manifest(), made])
    assert ["init"] == [move["container"] for move in said["moves"]]
    assert [("Pod/web-0", "ImageVolume")] == named(said, "hangs")


async def test_one_namespace_alone(tmp_path: Path) -> None:
    """With -n, nothing outside the namespace is read but what has no namespace."""
    objects = [source_manifest(), *deployed("web"), *deployed("web", namespace="else")]
    cluster = ListedCluster(objects)
    async with cluster.session(tmp_path, "drill", "quay.io", "-n", "shop", "-o", "json") as typed:
        assert 0 == await typed.run()
    assert ["shop"] == [move["namespace"] for move in json.loads(typed.out)["moves"]]
    assert not [request for request in cluster.requests if "/else" in request]
