"""`why` tells rung by rung what happens to a workload, or would happen."""

from pathlib import Path

import pytest

from kubectl_saffire.commands.why import kinds_named
from kubectl_saffire.errors import UsageError
from saffire.kube.kinds import Kinds
from saffire.policy.history import ANNOTATION, History
from testkit.builders import FAILING, NOW, SECOND, Object, annotated, moved, pod, source_manifest, waiting, workload
from testkit.listed_cluster import ListedCluster, deployed, placed


async def told_of(folder: Path, target: str, objects: list[Object]) -> tuple[int, str]:
    """Return the exit status and the output of `why` about a target in the namespace `shop`."""
    cluster = ListedCluster(objects)
    async with cluster.session(folder, "why", target, "-n", "shop") as typed:
        status = await typed.run()
    assert {"GET"} == {request.partition(" ")[0] for request in cluster.requests}
    assert max(len(line) for line in typed.out.splitlines() if " $ " not in line) <= 80
    return status, typed.out


@pytest.mark.parametrize(
    "target", ["web", "deployment/web", "deploy/web", "web-1", "rs/web-1", "web-1-0", "pod/web-1-0"]
)
async def test_a_user_names_a_pod_or_what_owns_it(tmp_path: Path, target: str) -> None:
    """A name, or a kind and a name as kubectl takes it."""
    status, out = await told_of(tmp_path, target, [source_manifest(), *deployed("web")])
    assert 0 == status
    assert "owners: ReplicaSet/web-1 <- Deployment/web" in out


@pytest.mark.parametrize("target", ["nobody", "deployment/nobody", "widgets/web", "Web", "../secrets"])
async def test_what_is_not_there_is_an_error_that_says_what_to_type(tmp_path: Path, target: str) -> None:
    """Nothing is shown then."""
    with pytest.raises(UsageError, match=r"[Tt]ype"):
        await told_of(tmp_path, target, [source_manifest(), *deployed("web")])


async def test_a_calm_workload_is_told_what_an_outage_would_do(tmp_path: Path) -> None:
    """No pull fails, so the death of each registry that its pods use is rehearsed."""
    status, out = await told_of(tmp_path, "deployment/web", [source_manifest(), *deployed("web")])
    assert 0 == status
    assert "no pull fails now" in out
    assert "AlternateImageSource/shop: mode Enforce" in out
    assert f"1. {SECOND}, by AlternateImageSource/shop" in out
    assert "if quay.io died: Saffire moves it" in out
    assert "Saffire has never moved it" in out


async def test_a_failing_workload_is_told_in_the_words_of_its_kubelet(tmp_path: Path) -> None:
    """The words, the cause, the decision and the next step."""
    objects = [source_manifest(["quay.io/acme/api", "ghcr.io/acme/api"]), *deployed("web", fails=True)]
    status, out = await told_of(tmp_path, "deployment/web", objects)
    assert 1 == status
    for words in (
        "web of web-1-0 on no node: ErrImagePull",
        f"image: {FAILING}",
        "cause: refused: quay.io refused the connection",
        "connect: connection refused",
        f"{FAILING}: no source lists it",
        "RepositoryNotListed",
        "$ kubectl edit ais shop -n shop",
    ):
        assert words in out


async def test_the_history_is_told_once(tmp_path: Path) -> None:
    """A ReplicaSet has a copy of its Deployment's annotation."""
    history = {ANNOTATION: History((moved(FAILING, SECOND, NOW, fault="outage"),)).rendered()}
    deployment, replica_set, *pods = deployed("web")
    objects = [source_manifest(), annotated(deployment, history), annotated(replica_set, history), *pods]
    _, out = await told_of(tmp_path, "deployment/web", objects)
    assert 1 == out.count("2026-11-23T02:00:00Z Deployment/web: moved web from")


async def test_a_cron_job_between_two_runs(tmp_path: Path) -> None:
    """Its next run is rehearsed."""
    status, out = await told_of(tmp_path, "cj/report", [source_manifest(), placed(workload("CronJob"), "report")])
    assert 0 == status
    assert "CronJob/report in namespace shop: 0 pods" in out
    assert "if quay.io died: Saffire moves it" in out


async def test_hostile_words_of_a_registry_are_escaped(tmp_path: Path) -> None:
    """An error text that somebody's registry sent does not move the cursor."""
    failing = placed(pod(waiting(message="\x1b[2J\x1b]0;pwned\x07 connection refused")), "web-0")
    _, out = await told_of(tmp_path, "pod/web-0", [source_manifest(), failing])
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    assert "\\x1b[2J" in out


async def test_what_the_status_says_of_a_container_that_was_left(tmp_path: Path) -> None:
    """A source may list it, with the reason and since when."""
    entry = {
        "target": {"uid": "deployment-shop-web"},
        "container": "web",
        "image": FAILING,
        "reason": "Paused",
        "message": "set mode: Enforce",
        "since": "2026-11-23T01:00:00Z",
    }
    left = {**source_manifest(), "status": {"left": [entry]}}
    _, out = await told_of(tmp_path, "deployment/web", [left, *deployed("web")])
    assert f"since 2026-11-23T01:00:00Z: web with {FAILING}: Paused: set mode: Enforce" in " ".join(out.split())


def test_kinds_have_short_names() -> None:
    """As kubectl has them."""
    words = ["sts", "statefulsets", "StatefulSet", "cj", "po", "deploy"]
    assert [{"StatefulSet"}] * 3 + [{"CronJob"}, {"Pod"}, {"Deployment"}] == [
        {kind.name for kind in kinds_named(word, Kinds())} for word in words
    ]
    assert [] == kinds_named("", Kinds().extended("example.com/Widget"))
