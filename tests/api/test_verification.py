"""Registries are checked before a workload moves: which alternative is taken, with which proof, how fast."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from testkit import scripted_registry as shapes
from testkit.api.namespace_fixture import HISTORY, NamespaceFixture, until, waiting
from testkit.api.registry_fixture import PASSWORD, TAG, USER_NAME, RegistryFixture, failing, let_read
from testkit.api.registry_pool import LONE, NOWHERE, PATH, MakeRegistry, RegistryPool, answering
from testkit.api.workloads import container, deployment, images, pod, pod_spec, pod_spec_of
from testkit.check_registry import SINGLE, WEB
from testkit.oci_images import INDEX, index
from testkit.scripted_registry import Registry

BUDGET_SECONDS = 1.5
PATIENCE_SECONDS = 6
"""How much longer than the budget an answer may take, on a machine that is busy with other things."""
DIGEST = f"v1@{WEB.digest}"
ABSENT = 'failed to resolve reference "{}": {}: not found'
DENIED = 'failed to resolve reference "{}": pull access denied, repository does not exist or may require authorization'


def lone(registry_fixture: RegistryFixture, name: str, path: str, suffix: str = TAG) -> Manifest:
    """Return a bare pod."""
    return pod(pod_spec(container(image=registry_fixture.image(suffix, path))), name=name)


async def reasons(registry_fixture: RegistryFixture, name: str) -> list[tuple[str, str]]:
    """Return what Saffire reported at a pod."""
    return await registry_fixture.namespace.saffire_events(await registry_fixture.namespace.read(pod(name=name)))


# One of two alternatives is good enough.


UNFIT: dict[str, Callable[[RegistryPool], Registry]] = {
    "it lacks the tag": RegistryPool.empty,
    "it has another digest": lambda pool: pool.filled(index("linux/amd64", build="2")),
    "it is for another platform": lambda pool: pool.filled(index("linux/arm64")),
    "it wants to know who we are": lambda pool: pool.filled(shape=shapes.status(401)),
    "its index is whole, and the node's image is not": lambda pool: pool.filled(
        shape=shapes.on("/manifests/", shapes.body(WEB.body[:-9], INDEX))
    ),
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
async def test_what_is_proven_equal_is_taken(
    unfit: Callable[[RegistryPool], Registry],
    registry_fixture: RegistryFixture,
    pool: RegistryPool,
    checking_function: FunctionProcess,
) -> None:
    """The first alternative is checked and passed over for a proven one; every record names the proof."""
    first, second = unfit(pool), pool.filled()
    await registry_fixture.offer(first.domain, second.domain)
    await registry_fixture.run_sibling(WEB)
    answer = await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture)))
    moved = f"{second.domain}/{PATH}:v1"
    assert (200, f"moved web of Deployment/web to {moved}") == (answer.status, answer.text)
    live = await registry_fixture.namespace.read(deployment())
    assert {"web": moved} == images(pod_spec_of(live))
    (entry,) = json.loads(live["metadata"]["annotations"][HISTORY])["failovers"]
    assert (moved, "equal digest") == (entry["to"], entry["proof"])
    assert {"web": (moved, "equal digest")} == await registry_fixture.proofs()
    ((reason, message),) = await registry_fixture.namespace.saffire_events(live)
    assert ("Failover", True) == (reason, "; alternative has the same digest; by " in message)
    (plan,) = [
        plan for line in checking_function.log() for plan in line.get("plans", ()) if plan.get("candidate") == moved
    ]
    assert "equal digest" == plan["proof"]
    assert first.requests
    assert second.requests


async def test_without_a_digest_the_first_that_is_there_is_taken(
    registry_fixture: RegistryFixture, pool: RegistryPool
) -> None:
    """If the failing image's digest is unknown, the record says that the alternative is present, and no more."""
    first, second = pool.filled(index("linux/amd64", build="2")), pool.filled()
    await registry_fixture.offer(first.domain, second.domain)
    await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture)))
    assert {"web": (f"{first.domain}/{PATH}:v1", "present")} == await registry_fixture.proofs()


async def test_what_ran_at_the_last_sweep_is_known(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """If all pods of an image are gone with their node, the alternative is compared with the digest that they ran."""
    first, second = pool.filled(index("linux/amd64", build="2")), pool.filled()
    await registry_fixture.offer(first.domain, second.domain)
    await registry_fixture.run_sibling(WEB)
    await registry_fixture.namespace.sweep()
    sibling = await registry_fixture.namespace.read(pod(name="sibling"))
    await registry_fixture.namespace.api.delete(await registry_fixture.namespace.api.path(sibling))
    await registry_fixture.namespace.until_gone(sibling)
    await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture)))
    assert {"web": (f"{second.domain}/{PATH}:v1", "equal digest")} == await registry_fixture.proofs()


async def test_another_build_is_taken_where_that_is_allowed(
    registry_fixture: RegistryFixture, pool: RegistryPool
) -> None:
    """With `allowDifferentDigest: true` the first alternative is taken, as `present`."""
    first, second = pool.filled(index("linux/amd64", build="2")), pool.filled()
    await registry_fixture.offer(first.domain, second.domain, allowDifferentDigest=True)
    await registry_fixture.run_sibling(WEB)
    await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture)))
    assert {"web": (f"{first.domain}/{PATH}:v1", "present")} == await registry_fixture.proofs()


async def test_off_asks_nobody(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """With `verification: "Off"` the first alternative is taken without a check."""
    first, second = pool.empty(), pool.filled()
    await registry_fixture.offer(first.domain, second.domain, verification="Off")
    await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture)))
    assert {"web": (f"{first.domain}/{PATH}:v1", "unverified")} == await registry_fixture.proofs()
    assert [] == first.requests + second.requests


async def test_strict_refuses_what_has_lost_a_layer(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """The registry has the manifest with the right digest, but not all layers: Strict refuses it."""
    only = pool.filled()
    only.lose(SINGLE.parsed["layers"][1]["digest"])
    await registry_fixture.offer(only.domain, verification="Strict")
    await registry_fixture.run_sibling(WEB)
    event = await registry_fixture.fail(failing(registry_fixture))
    answer = await registry_fixture.namespace.post(event)
    image, layer = registry_fixture.image(), SINGLE.parsed["layers"][1]["digest"]
    lost = f"{only.domain}/{PATH}:v1: {only.domain} lacks a part of it: layer {layer}; "
    said = f"left web with {image}: CandidateNotProven: {image}: {registry_fixture.old} refused the connection; {lost}"
    assert (200, said) == (answer.status, answer.text[: len(said)])
    assert [] == registry_fixture.namespace.patches()
    assert registry_fixture.image() == await registry_fixture.image_now(deployment())


# Private registries.


@dataclass(frozen=True)
class Private:
    """A registry that accepts the password of the Secret `pull`, and a public one."""

    registry: Registry
    public: Registry


@pytest.fixture
async def private(registry_fixture: RegistryFixture, pool: RegistryPool) -> Private:
    """Give a registry that wants a password, which a Secret of the namespace has."""
    registry = pool.filled()
    await registry_fixture.lock(registry)
    return Private(registry, pool.filled())


@pytest.mark.parametrize("whose", ["the pod's", "the source's"])
async def test_a_private_registry_is_asked_with_a_pull_secret(
    whose: str,
    registry_fixture: RegistryFixture,
    private: Private,
    cluster: ControlPlane,
    checking_function: FunctionProcess,
) -> None:
    """With the Role of the documentation the first alternative is proven; nothing of the Secret appears anywhere."""
    await let_read(registry_fixture.namespace, cluster)
    credentials = [{"registry": private.registry.domain, "secretName": "pull"}] if whose == "the source's" else []
    await registry_fixture.offer(private.registry.domain, private.public.domain, credentials=credentials)
    secrets = {"imagePullSecrets": [{"name": "pull"}]} if whose == "the pod's" else {}
    answer = await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture, **secrets)))
    assert {"web": (f"{private.registry.domain}/{PATH}:v1", "present")} == await registry_fixture.proofs()
    basic = base64.b64encode(f"{USER_NAME}:{PASSWORD}".encode()).decode()
    assert f"Basic {basic}" in private.registry.authorizations
    seen = [
        answer.text,
        answer.head.decode(),
        checking_function.output(),
        json.dumps(await registry_fixture.namespace.events()),
        json.dumps(await registry_fixture.namespace.status()),
        json.dumps(await registry_fixture.namespace.read(deployment())),
    ]
    assert [] == [text for text in seen for word in (USER_NAME, PASSWORD, basic) if word in text]


async def test_without_the_role_less_is_known(registry_fixture: RegistryFixture, private: Private) -> None:
    """Without the Role the Secret is not read: the private registry is unknown, so a proven alternative is taken."""
    await registry_fixture.offer(private.registry.domain, private.public.domain)
    await registry_fixture.namespace.post(
        await registry_fixture.fail(failing(registry_fixture, imagePullSecrets=[{"name": "pull"}]))
    )
    assert ("get", "secrets", "pull", 403) in {call[:4] for call in registry_fixture.namespace.calls()}
    assert {"web": (f"{private.public.domain}/{PATH}:v1", "present")} == await registry_fixture.proofs()


async def test_without_the_role_a_private_registry_is_still_moved_to(
    registry_fixture: RegistryFixture, private: Private
) -> None:
    """Nodes may have credentials that Saffire lacks: `BestEffort` moves to the private registry, `unverified`."""
    await registry_fixture.offer(private.registry.domain)
    await registry_fixture.namespace.post(
        await registry_fixture.fail(failing(registry_fixture, imagePullSecrets=[{"name": "pull"}]))
    )
    assert {"web": (f"{private.registry.domain}/{PATH}:v1", "unverified")} == await registry_fixture.proofs()


# Image names that may be wrong.


async def creating(namespace: NamespaceFixture, node: str, image: str) -> Manifest:
    """Create a pod on the slow node, and return it once it pulls."""
    live = await namespace.apply(pod(pod_spec(container(image=image), nodeName=node)))

    async def look() -> Manifest | None:
        pod = await namespace.read(live)
        return pod if waiting(pod) == {"ContainerCreating"} else None

    return await until(look)


@pytest.mark.parametrize("error", [ABSENT, DENIED], ids=["absent", "denied"])
async def test_a_name_that_may_be_wrong_moves_to_proven_images_only(
    error: str, registry_fixture: RegistryFixture, pool: RegistryPool, slow_node: str
) -> None:
    """After a 404 or a denial, an unknown alternative is not taken, and a Warning names each."""
    absent, unknown, good = pool.empty(), pool.filled(shape=shapes.status(403)), pool.filled()
    image = registry_fixture.image()
    words = f'Failed to pull image "{image}": {error.format(image, image)}'
    stuck = await creating(registry_fixture.namespace, slow_node, image)
    await registry_fixture.offer(absent.domain, unknown.domain)
    event = await registry_fixture.namespace.write_kubelet_event(stuck, "containers", "web", image, message=words)
    answer = await registry_fixture.namespace.post(event)
    assert (200, True) == (
        answer.status,
        answer.text.startswith(f"left web with {image}: CandidateNotProven: {image}: "),
    )
    assert [] == registry_fixture.namespace.patches()
    ((reason, message),) = await registry_fixture.namespace.saffire_events(stuck)
    assert "CandidateNotProven" == reason
    assert f"{absent.domain}/{PATH}:v1: {absent.domain} has no such image" in message
    denied = f"{unknown.domain} does not tell Saffire without other credentials"
    assert f"{unknown.domain}/{PATH}:v1: {denied}" in message
    await registry_fixture.offer(unknown.domain, absent.domain, good.domain)
    await registry_fixture.namespace.post(
        await registry_fixture.namespace.write_kubelet_event(stuck, "containers", "web", image, message=words)
    )
    assert {"web": (f"{good.domain}/{PATH}:v1", "present")} == await registry_fixture.proofs()


# Every shape of an outage, with and without another alternative.


@dataclass(frozen=True)
class Row:
    """
    How the first alternative answers, and the result.

    Args:
        first: sets up the registry.
        proof: its proof; `None` if another, proven alternative is taken.
        alone: if the pod has no other alternative, the proof of its move; `""` if the pod does not move.
        strict: whether everything has to be proven, of an image that is named by its digest.

    """

    first: MakeRegistry
    proof: str | None
    alone: str
    strict: bool = False


LOST = shapes.on(SINGLE.parsed["layers"][0]["digest"], shapes.status(404))
TOKENLESS = shapes.status(401, {"WWW-Authenticate": 'Bearer realm="https://127.0.0.1:1/token"'})
LIMITED = shapes.status(429, {"Retry-After": "60"})
UNLABELLED = shapes.on("/manifests/v1", shapes.body(WEB.body, INDEX))
TRUNCATED = shapes.on("/manifests/", shapes.body(WEB.body[:-20], INDEX))
SHAPES = {
    "there": Row(answering(None), "present", "present"),
    "metadata OK, layers hang": Row(answering(shapes.on("/blobs/", shapes.hang)), "present", "present"),
    "500": Row(answering(shapes.status(500)), None, "unverified"),
    "503": Row(answering(shapes.status(503)), None, "unverified"),
    "slow": Row(answering(shapes.hang), None, "unverified"),
    "truncated manifests": Row(answering(TRUNCATED), None, ""),
    "blobs 403": Row(answering(shapes.on("/blobs/", shapes.status(403))), "present", "present"),
    "blobs 500": Row(answering(shapes.on("/blobs/", shapes.status(500))), "present", "present"),
    "config 500, no index": Row(answering(shapes.on("/blobs/", shapes.status(500)), SINGLE), "present", "present"),
    "401 for public images": Row(answering(shapes.status(401)), None, "unverified"),
    "401, and the token endpoint is down": Row(answering(TOKENLESS), None, "unverified"),
    "refused": Row(RegistryPool.refusing_address, None, "unverified"),
    "DNS failure": Row(lambda _: NOWHERE, None, "unverified"),
    "taken and never answered": Row(lambda pool: pool.broken["silent"], None, "unverified"),
    "one byte a second of the head": Row(lambda pool: pool.broken["slow"], None, "unverified"),
    "one byte a second": Row(answering(shapes.drip), None, "unverified"),
    "TLS expired": Row(lambda pool: pool.broken["expired"], None, "unverified"),
    "TLS for another name": Row(lambda pool: pool.broken["for another name"], None, "unverified"),
    "429": Row(answering(shapes.status(429)), None, "unverified"),
    "429 for a minute": Row(answering(LIMITED), None, "unverified"),
    "without the node's platform": Row(answering(None, index("linux/arm64", "windows/amd64")), None, ""),
    "no Docker-Content-Digest": Row(answering(UNLABELLED), "present", "present"),
    "a redirect loop": Row(answering(shapes.redirect_loop), None, "unverified"),
    "50 MB": Row(answering(shapes.huge), None, "unverified"),
    "50 MB, and says so": Row(answering(shapes.promise), None, "unverified"),
    "404": Row(answering(shapes.status(404)), None, ""),
    "402": Row(answering(shapes.status(402)), None, ""),
    "410": Row(answering(shapes.status(410)), None, ""),
    "412": Row(answering(shapes.status(412)), None, ""),
    "451": Row(answering(shapes.status(451)), None, ""),
    "there, strictly": Row(answering(None), "equal digest", "equal digest", strict=True),
    "layers hang, strictly": Row(answering(shapes.on("/blobs/", shapes.hang)), None, "", strict=True),
    "blobs 403, strictly": Row(answering(shapes.on("/blobs/", shapes.status(403))), None, "", strict=True),
    "blobs 500, strictly": Row(answering(shapes.on("/blobs/", shapes.status(500))), None, "", strict=True),
    "a layer lost, strictly": Row(answering(LOST), None, "", strict=True),
    "another digest, strictly": Row(answering(shapes.body(SINGLE.body, INDEX)), None, "", strict=True),
    "503, strictly": Row(answering(shapes.status(503)), None, "", strict=True),
}


@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
async def test_every_shape_of_an_outage_leads_to_the_right_plan(
    row: Row, registry_fixture: RegistryFixture, pool: RegistryPool
) -> None:
    """Each answer is tested beside a good alternative and alone, within the budget of both."""
    first, second = row.first(pool), pool.filled()
    suffix = DIGEST if row.strict else TAG
    sets = [(PATH, first, second.domain), (LONE, first)]
    replacements = [
        {"equivalentRepositories": [f"{domain}/{path}" for domain in (registry_fixture.old, *where)]}
        for path, *where in sets
    ]
    await registry_fixture.namespace.source(
        imageSourceReplacements=replacements, verification="Strict" if row.strict else "BestEffort"
    )
    registry_fixture.namespace.dead.add(registry_fixture.old)
    await registry_fixture.namespace.apply(lone(registry_fixture, "lone", LONE, suffix))
    await registry_fixture.namespace.apply(lone(registry_fixture, "web", PATH, suffix))
    stuck = {pod["metadata"]["name"]: pod for pod in await registry_fixture.namespace.failing(2)}
    event = await registry_fixture.namespace.event(stuck["web"])
    before = asyncio.get_running_loop().time()
    answer = await registry_fixture.namespace.post(event)
    assert asyncio.get_running_loop().time() - before < BUDGET_SECONDS + PATIENCE_SECONDS
    assert 200 == answer.status
    proven = "equal digest" if row.strict else "present"
    expected = {"web": (f"{second.domain}/{PATH}:{suffix}", proven)}
    if row.proof:
        expected["web"] = (f"{first}/{PATH}:{suffix}", row.proof)
    if row.alone:
        expected["lone"] = (f"{first}/{LONE}:{suffix}", row.alone)
    assert expected == await registry_fixture.proofs()
    assert ["Failover" if row.alone else "CandidateNotProven"] == [
        reason for reason, _ in await reasons(registry_fixture, "lone")
    ]


async def test_one_budget_is_spent_where_nobody_answers(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """Six workloads, three registries that hang: each registry is checked once, and its silence is remembered."""
    hanging = [pool.filled(shape=shapes.hang) for _ in range(3)]
    await registry_fixture.offer(*(registry.domain for registry in hanging))
    registry_fixture.namespace.dead.add(registry_fixture.old)
    names = [f"web-{number}" for number in range(6)]
    for name in names:
        await registry_fixture.namespace.apply(lone(registry_fixture, name, f"acme/{name}"))
    stuck = {pod["metadata"]["name"]: pod for pod in await registry_fixture.namespace.failing(6)}
    event = await registry_fixture.namespace.event(stuck["web-0"])
    before = asyncio.get_running_loop().time()
    await registry_fixture.namespace.post(event)
    assert BUDGET_SECONDS <= asyncio.get_running_loop().time() - before < BUDGET_SECONDS + PATIENCE_SECONDS
    expected = {name: (f"{hanging[0].domain}/acme/{name}:v1", "unverified") for name in names}
    assert expected == await registry_fixture.proofs()
    assert [["GET /v2/acme/web-0/manifests/v1"]] * 3 == [registry.requests for registry in hanging]


async def test_dead_registries_cost_no_time(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """If all registries refuse connections, the first alternative is taken at once, `unverified`."""
    domains = [pool.refusing_address() for _ in range(2)]
    await registry_fixture.offer(*domains)
    event = await registry_fixture.fail(lone(registry_fixture, "web", PATH))
    await registry_fixture.namespace.post(event)
    assert {"web": (f"{domains[0]}/{PATH}:v1", "unverified")} == await registry_fixture.proofs()
