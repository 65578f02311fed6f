"""The images in use: of pods and of templates, in one list per kind; and what registries answer about their copies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubectl_saffire.estate import Estate
from kubectl_saffire.usage import Inventory, ask, in_every, pairs_of
from saffire.policy.readiness import ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.reconcile.candidate_lookup import LookupCache
from saffire.registry.check import ImageChecker
from testkit.builders import OPT_OUT, Object, cluster_source, pod, source, workload
from testkit.check_registry import SINGLE, WEB, running_registry, transport
from testkit.listed_cluster import ListedCluster, placed

SPEC = {"spec": {"imagePullSecrets": [{"name": "pull"}], "volumes": [{"name": "v", "image": {"reference": "a.io/v"}}]}}
ARM = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
NODE: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "arm", "labels": ARM}}


def silent(_: str) -> None:
    """Show no progress."""


@asynccontextmanager
async def estate_of(folder: Path, cluster: ListedCluster, *, namespace: str = "") -> AsyncIterator[Estate]:
    """Yield the estate of a cluster."""
    async with cluster.session(folder, "status") as typed:
        session = typed.session
        yield Estate(session.server, session.settings.kinds, namespace=namespace, is_live=True)


async def images(folder: Path, cluster: ListedCluster, namespace: str = "shop", *, scope: str = "") -> list[str]:
    """Return the images in use in a namespace."""
    async with estate_of(folder, cluster, namespace=scope) as estate:
        inventory = await Inventory.read(estate, silent)
        manifest = await estate.namespace(namespace)
        return [use.image for use in inventory.uses(manifest or {})]


async def test_pods_and_templates_count(tmp_path: Path) -> None:
    """A workload without pods, and a CronJob between its runs, name what they will pull."""
    bare = placed(pod(web="a.io/pod"), "bare")
    bare["spec"] = {**bare["spec"], **SPEC["spec"]}
    cluster = ListedCluster(
        [
            bare,
            placed(workload("Deployment", web="a.io/deployment", log="a.io/log"), "web"),
            placed(workload("CronJob", section="initContainers", web="a.io/cron"), "cron"),
            placed(workload("StatefulSet", web="a.io/elsewhere"), "web", "other"),
        ]
    )
    expected = ["a.io/cron", "a.io/deployment", "a.io/log", "a.io/pod", "a.io/v"]
    assert expected == await images(tmp_path, cluster)
    assert expected == await images(tmp_path, cluster, scope="shop")
    assert ["a.io/elsewhere"] == await images(tmp_path, cluster, "other")


async def test_a_thousand_namespaces_take_a_list_per_kind(tmp_path: Path) -> None:
    """The number of requests does not grow with the cluster, but for the pages of the lists."""
    cluster = ListedCluster(
        placed(workload("Deployment", web=f"a.io/{number}"), "web", f"ns-{number}") for number in range(600)
    )
    async with estate_of(tmp_path, cluster) as estate:
        assert 600 == len((await Inventory.read(estate, silent)).namespaces)
    assert cluster.requests.total() < 40


async def test_what_saffire_would_not_move_does_not_count(tmp_path: Path) -> None:
    """That is what a user has opted out, and static pods."""
    cluster = ListedCluster(
        [
            placed(pod(web="a.io/out"), "out", annotations=OPT_OUT),
            placed(pod(web="a.io/static"), "static", annotations={"kubernetes.io/config.mirror": "x"}),
            placed(workload("Deployment", web="a.io/deployment"), "web", annotations=OPT_OUT),
        ]
    )
    assert [] == await images(tmp_path, cluster)


async def test_a_kind_that_the_user_may_not_list_is_named(tmp_path: Path) -> None:
    """The rest is read all the same."""
    cluster = ListedCluster([placed(pod(web="a.io/pod"), "bare")])
    cluster.denied.add("/apis/apps/v1/deployments")
    async with estate_of(tmp_path, cluster) as estate:
        assert {"shop"} == (await Inventory.read(estate, silent)).namespaces
        assert {"objects of the kind Deployment"} == estate.hidden


def test_pairs_are_those_of_a_failover() -> None:
    """If a source of the namespace lists an image, cluster-wide sources do not count; no reference has no pair."""
    own = source(["a.io/*", "b.io/*"])
    wide = cluster_source(["a.io/*", "c.io/*"], ["d.io/*", "c.io/d/*"])
    uses = [ImageUse(image=image) for image in ("a.io/web:1", "d.io/web:1", "$(id)")]
    assert [("a.io/web:1", "b.io/web:1"), ("d.io/web:1", "c.io/d/web:1")] == [
        (pair.use.image, pair.candidate.image) for pair in pairs_of(uses, [own, wide])
    ]


@pytest.mark.parametrize(
    ("state", "tag", "nodes", "digests"),
    [
        (ReadinessState.READY, "web:v1", (), ()),
        (ReadinessState.READY, "web:v1", ("arm",), ()),
        (ReadinessState.READY, "web:v1", ("arm",), (WEB.digest,)),
        (ReadinessState.DIFFERENT, "web:v1", ("arm",), (f"sha256:{64 * '0'}",)),
        (ReadinessState.PLATFORM, "single:v1", ("arm",), ()),
        (ReadinessState.ABSENT, "web:v2", ("arm",), ()),
    ],
)
async def test_a_registry_is_asked_as_for_a_failover(
    tmp_path: Path, state: ReadinessState, tag: str, nodes: tuple[str, ...], digests: tuple[str, ...]
) -> None:
    """The platforms of the nodes and the digests of the pods decide, as `verification` says."""
    async with (
        running_registry() as registry,
        estate_of(tmp_path, ListedCluster([NODE])) as estate,
        ImageChecker(transport(registry.domain)) as checker,
    ):
        use = ImageUse(image=f"a.io/acme/{tag}", nodes=nodes, digests=frozenset(digests))
        pairs = tuple(pairs_of([use], [source(["a.io/*", f"{registry.domain}/*"])]))
        cache = LookupCache(estate, checker, budget_seconds=10)
        assert [(pairs[0], state)] == await ask(cache, "shop", pairs)


async def test_a_digest_that_proves_a_pair_costs_no_pull(tmp_path: Path) -> None:
    """Registries count GET for a manifest as a pull, and HEAD is enough if the digest is that of the pods."""
    async with (
        running_registry() as registry,
        estate_of(tmp_path, ListedCluster([NODE])) as estate,
        ImageChecker(transport(registry.domain)) as checker,
    ):
        use = ImageUse(image="a.io/acme/web:v1", digests=frozenset({WEB.digest}), nodes=("arm",))
        pairs = tuple(pairs_of([use], [source(["a.io/*", f"{registry.domain}/*"])]))
        assert [(pairs[0], ReadinessState.READY)] == await ask(
            LookupCache(estate, checker, budget_seconds=10), "shop", pairs
        )
    assert ["HEAD /v2/acme/web/manifests/v1"] == registry.requests


async def test_a_hundred_pairs_are_answered_in_their_order(tmp_path: Path) -> None:
    """They are asked about in portions."""
    async with (
        running_registry() as registry,
        estate_of(tmp_path, ListedCluster([])) as estate,
        ImageChecker(transport(registry.domain)) as checker,
    ):
        for number in range(0, 100, 2):
            registry.push(f"acme/i{number}:v1", SINGLE)
        uses = [ImageUse(image=f"a.io/acme/i{number}:v1") for number in range(100)]
        pairs = tuple(pairs_of(uses, [source(["a.io/*", f"{registry.domain}/*"])]))
        answered = await ask(LookupCache(estate, checker, budget_seconds=10), "shop", pairs)
    assert list(pairs) == [pair for pair, _ in answered]
    assert [ReadinessState.READY, ReadinessState.ABSENT] * 50 == [state for _, state in answered]


async def test_namespaces_are_looked_at_some_at_a_time() -> None:
    """Eight are looked at together; the results are in the order of the alphabet, and the progress counts up to all."""
    eight = asyncio.Barrier(8)
    at_work: set[str] = set()
    most, said = 0, list[str]()

    async def look(name: str) -> str:
        nonlocal most
        at_work.add(name)
        most = max(most, len(at_work))
        await eight.wait()
        at_work.discard(name)
        return name

    names = [f"ns-{number:02}" for number in range(24)]
    async with asyncio.timeout(10):
        assert names == await in_every(names[::-1], look, said.append)
    assert (8, "looked at 24 of 24 namespaces") == (most, said[-1])
