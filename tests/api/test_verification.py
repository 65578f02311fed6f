"""Registries are asked before a workload is moved: which alternative is taken, for which proof, and in what time."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from playground.api import Manifest
from playground.controlplane import ControlPlane
from playground.served import ServedFunction
from testkit import scripted_registry as shapes
from testkit.api.namespace_fixture import HISTORY, Stage, until, waiting
from testkit.api.registry_fixture import PASSWORD, TAG, USER_NAME, Shop, failing, let_read
from testkit.api.registry_pool import LONE, NOWHERE, PATH, Market, Stall, answering
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


def lone(shop: Shop, name: str, path: str, suffix: str = TAG) -> Manifest:
    """Return a bare pod."""
    return pod(pod_spec(container(image=shop.image(suffix, path))), name=name)


async def reasons(shop: Shop, name: str) -> list[tuple[str, str]]:
    """Return what Saffire told at a pod."""
    return await shop.stage.told(await shop.stage.read(pod(name=name)))


# One of two alternatives will do.


UNFIT: dict[str, Callable[[Market], Registry]] = {
    "it lacks the tag": Market.empty,
    "it has another digest": lambda market: market.filled(index("linux/amd64", build="2")),
    "it is for another platform": lambda market: market.filled(index("linux/arm64")),
    "it wants to know who we are": lambda market: market.filled(shape=shapes.status(401)),
    "its index is whole, and the node's image is not": lambda market: market.filled(
        shape=shapes.on("/manifests/", shapes.body(WEB.body[:-9], INDEX))
    ),
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
async def test_what_is_proven_equal_is_taken(
    unfit: Callable[[Market], Registry], shop: Shop, market: Market, asker: ServedFunction
) -> None:
    """The first in order is asked and passed over; the other is taken, and every record tells for which proof."""
    first, second = unfit(market), market.filled()
    await shop.offer(first.domain, second.domain)
    await shop.run_sibling(WEB)
    answer = await shop.stage.post(await shop.fail(failing(shop)))
    moved = f"{second.domain}/{PATH}:v1"
    assert (200, f"moved web of Deployment/web to {moved}") == (answer.status, answer.text)
    live = await shop.stage.read(deployment())
    assert {"web": moved} == images(pod_spec_of(live))
    (entry,) = json.loads(live["metadata"]["annotations"][HISTORY])["failovers"]
    assert (moved, "equal digest") == (entry["to"], entry["proof"])
    assert {"web": (moved, "equal digest")} == await shop.proofs()
    ((reason, message),) = await shop.stage.told(live)
    assert ("Failover", True) == (reason, "; equal digest; " in message)
    (plan,) = [plan for line in asker.log() for plan in line.get("plans", ()) if plan.get("candidate") == moved]
    assert "equal digest" == plan["proof"]
    assert first.requests
    assert second.requests


async def test_without_a_digest_the_first_that_is_there_is_taken(shop: Shop, market: Market) -> None:
    """Nobody tells what the failing image was, so the record says that the alternative is present, and no more."""
    first, second = market.filled(index("linux/amd64", build="2")), market.filled()
    await shop.offer(first.domain, second.domain)
    await shop.stage.post(await shop.fail(failing(shop)))
    assert {"web": (f"{first.domain}/{PATH}:v1", "present")} == await shop.proofs()


async def test_what_ran_at_the_last_sweep_is_known(shop: Shop, market: Market) -> None:
    """The pods that ran an image may all be gone with their node: the alternative is held to what they ran."""
    first, second = market.filled(index("linux/amd64", build="2")), market.filled()
    await shop.offer(first.domain, second.domain)
    await shop.run_sibling(WEB)
    await shop.stage.sweep()
    sibling = await shop.stage.read(pod(name="sibling"))
    await shop.stage.api.delete(await shop.stage.api.path(sibling))
    await shop.stage.until_gone(sibling)
    await shop.stage.post(await shop.fail(failing(shop)))
    assert {"web": (f"{second.domain}/{PATH}:v1", "equal digest")} == await shop.proofs()


async def test_another_build_is_taken_where_that_is_allowed(shop: Shop, market: Market) -> None:
    """Whoever says `allowDifferentDigest: true` gets the first in order, as `present`."""
    first, second = market.filled(index("linux/amd64", build="2")), market.filled()
    await shop.offer(first.domain, second.domain, allowDifferentDigest=True)
    await shop.run_sibling(WEB)
    await shop.stage.post(await shop.fail(failing(shop)))
    assert {"web": (f"{first.domain}/{PATH}:v1", "present")} == await shop.proofs()


async def test_off_asks_nobody(shop: Shop, market: Market) -> None:
    """With `verification: "Off"`, the first in order is taken on faith."""
    first, second = market.empty(), market.filled()
    await shop.offer(first.domain, second.domain, verification="Off")
    await shop.stage.post(await shop.fail(failing(shop)))
    assert {"web": (f"{first.domain}/{PATH}:v1", "unverified")} == await shop.proofs()
    assert [] == first.requests + second.requests


async def test_strict_refuses_what_has_lost_a_layer(shop: Shop, market: Market) -> None:
    """The manifest is answered, and with the digest it should have; that is not enough."""
    only = market.filled()
    only.lose(SINGLE.parsed["layers"][1]["digest"])
    await shop.offer(only.domain, verification="Strict")
    await shop.run_sibling(WEB)
    event = await shop.fail(failing(shop))
    answer = await shop.stage.post(event)
    lost = f"{only.domain}/{PATH}:v1: a part of it is missing: layer {SINGLE.parsed['layers'][1]['digest']}"
    assert (200, f"CandidateNotProven: {lost}") == (answer.status, answer.text)
    assert [] == shop.stage.patches()
    assert shop.image() == await shop.image_now(deployment())


# Private registries.


@dataclass(frozen=True)
class Private:
    """A registry that lets in whoever has the password of the Secret `pull`, and one that lets in everybody."""

    registry: Registry
    public: Registry


@pytest.fixture
async def private(shop: Shop, market: Market) -> Private:
    """Give a registry that wants a password, which stands in a Secret of the namespace."""
    registry = market.filled()
    await shop.lock(registry)
    return Private(registry, market.filled())


@pytest.mark.parametrize("whose", ["the pod's", "the source's"])
async def test_a_private_registry_is_asked_with_a_pull_secret(
    whose: str, shop: Shop, private: Private, cluster: ControlPlane, asker: ServedFunction
) -> None:
    """With the Role of the documentation it is proven, first in order, and nothing of the Secret is seen anywhere."""
    await let_read(shop.stage, cluster)
    credentials = [{"registry": private.registry.domain, "secretName": "pull"}] if whose == "the source's" else []
    await shop.offer(private.registry.domain, private.public.domain, credentials=credentials)
    secrets = {"imagePullSecrets": [{"name": "pull"}]} if whose == "the pod's" else {}
    answer = await shop.stage.post(await shop.fail(failing(shop, **secrets)))
    assert {"web": (f"{private.registry.domain}/{PATH}:v1", "present")} == await shop.proofs()
    basic = base64.b64encode(f"{USER_NAME}:{PASSWORD}".encode()).decode()
    assert f"Basic {basic}" in private.registry.authorizations
    seen = [
        answer.text,
        answer.head.decode(),
        asker.output(),
        json.dumps(await shop.stage.events()),
        json.dumps(await shop.stage.status()),
        json.dumps(await shop.stage.read(deployment())),
    ]
    assert [] == [text for text in seen for word in (USER_NAME, PASSWORD, basic) if word in text]


async def test_without_the_role_less_is_known(shop: Shop, private: Private) -> None:
    """What may not be read is left unread: the private registry is unknown, and what is proven comes first."""
    await shop.offer(private.registry.domain, private.public.domain)
    await shop.stage.post(await shop.fail(failing(shop, imagePullSecrets=[{"name": "pull"}])))
    assert ("get", "secrets", "pull", 403) in {call[:4] for call in shop.stage.calls()}
    assert {"web": (f"{private.public.domain}/{PATH}:v1", "present")} == await shop.proofs()


async def test_without_the_role_a_private_registry_is_still_moved_to(shop: Shop, private: Private) -> None:
    """Nodes may have credentials that Saffire has not: `BestEffort` moves there, `unverified`."""
    await shop.offer(private.registry.domain)
    await shop.stage.post(await shop.fail(failing(shop, imagePullSecrets=[{"name": "pull"}])))
    assert {"web": (f"{private.registry.domain}/{PATH}:v1", "unverified")} == await shop.proofs()


# A name that may be wrong.


async def creating(stage: Stage, node: str, image: str) -> Manifest:
    """Create a pod on the slow node, and return it once it is at its pull."""
    live = await stage.apply(pod(pod_spec(container(image=image), nodeName=node)))

    async def look() -> Manifest | None:
        found = await stage.read(live)
        return found if waiting(found) == {"ContainerCreating"} else None

    return await until(look)


@pytest.mark.parametrize("error", [ABSENT, DENIED], ids=["absent", "denied"])
async def test_a_name_that_may_be_wrong_moves_to_proven_images_only(
    error: str, shop: Shop, market: Market, slow_node: str
) -> None:
    """After a 404, or a denial, an alternative of which nobody can tell will not do, and a Warning says so of each."""
    absent, unknown, good = market.empty(), market.filled(shape=shapes.status(403)), market.filled()
    image = shop.image()
    words = f'Failed to pull image "{image}": {error.format(image, image)}'
    stuck = await creating(shop.stage, slow_node, image)
    await shop.offer(absent.domain, unknown.domain)
    event = await shop.stage.tell(stuck, "containers", "web", image, message=words)
    answer = await shop.stage.post(event)
    assert (200, "CandidateNotProven: ") == (answer.status, answer.text[:20])
    assert [] == shop.stage.patches()
    ((reason, message),) = await shop.stage.told(stuck)
    assert "CandidateNotProven" == reason
    assert f"{absent.domain}/{PATH}:v1: the registry has no such image" in message
    assert f"{unknown.domain}/{PATH}:v1: the registry " in message
    assert "and here, the registry does not tell us without other credentials" in message
    await shop.offer(unknown.domain, absent.domain, good.domain)
    await shop.stage.post(await shop.stage.tell(stuck, "containers", "web", image, message=words))
    assert {"web": (f"{good.domain}/{PATH}:v1", "present")} == await shop.proofs()


# Every shape of an outage, with and without another alternative.


@dataclass(frozen=True)
class Row:
    """
    How the first alternative answers, and what follows.

    Args:
        first: sets it up.
        proof: which one it has; `None` where another alternative is taken, of which all is proven.
        alone: what becomes of a pod that has this alternative only: the proof of its move, or `""` if it is left.
        strict: whether all is to be proven of an image that is named by its digest.

    """

    first: Stall
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
    "refused": Row(Market.nobody, None, "unverified"),
    "DNS failure": Row(lambda _: NOWHERE, None, "unverified"),
    "taken and never answered": Row(lambda market: market.odd["silent"], None, "unverified"),
    "one byte a second of the head": Row(lambda market: market.odd["slow"], None, "unverified"),
    "one byte a second": Row(answering(shapes.drip), None, "unverified"),
    "TLS expired": Row(lambda market: market.odd["expired"], None, "unverified"),
    "TLS for another name": Row(lambda market: market.odd["for another name"], None, "unverified"),
    "429": Row(answering(shapes.status(429)), None, "unverified"),
    "429 for a minute": Row(answering(LIMITED), None, "unverified"),
    "without the node's platform": Row(answering(None, index("linux/arm64", "windows/amd64")), None, ""),
    "no Docker-Content-Digest": Row(answering(UNLABELLED), "present", "present"),
    "a redirect loop": Row(answering(shapes.redirect_loop), None, "unverified"),
    "50 MB": Row(answering(shapes.huge), None, "unverified"),
    "50 MB, and says so": Row(answering(shapes.promise), None, "unverified"),
    "404": Row(answering(shapes.status(404)), None, ""),
    "there, strictly": Row(answering(None), "equal digest", "equal digest", strict=True),
    "layers hang, strictly": Row(answering(shapes.on("/blobs/", shapes.hang)), None, "", strict=True),
    "blobs 403, strictly": Row(answering(shapes.on("/blobs/", shapes.status(403))), None, "", strict=True),
    "blobs 500, strictly": Row(answering(shapes.on("/blobs/", shapes.status(500))), None, "", strict=True),
    "a layer lost, strictly": Row(answering(LOST), None, "", strict=True),
    "another digest, strictly": Row(answering(shapes.body(SINGLE.body, INDEX)), None, "", strict=True),
    "503, strictly": Row(answering(shapes.status(503)), None, "", strict=True),
}


@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
async def test_every_shape_of_an_outage_leads_to_the_right_plan(row: Row, shop: Shop, market: Market) -> None:
    """Beside a good alternative and alone, within the budget for both; the time for the other's answer is its own."""
    first, second = row.first(market), market.filled()
    suffix = DIGEST if row.strict else TAG
    sets = [(PATH, first, second.domain), (LONE, first)]
    replacements = [
        {"equivalentRepositories": [f"{one}/{path}" for one in (shop.old, *where)]} for path, *where in sets
    ]
    await shop.stage.source(imageSourceReplacements=replacements, verification="Strict" if row.strict else "BestEffort")
    shop.stage.dead.add(shop.old)
    await shop.stage.apply(lone(shop, "lone", LONE, suffix))
    await shop.stage.apply(lone(shop, "web", PATH, suffix))
    stuck = {one["metadata"]["name"]: one for one in await shop.stage.failing(2)}
    event = await shop.stage.event(stuck["web"])
    before = asyncio.get_running_loop().time()
    answer = await shop.stage.post(event)
    assert asyncio.get_running_loop().time() - before < BUDGET_SECONDS + PATIENCE_SECONDS
    assert 200 == answer.status
    proven = "equal digest" if row.strict else "present"
    expected = {"web": (f"{second.domain}/{PATH}:{suffix}", proven)}
    if row.proof:
        expected["web"] = (f"{first}/{PATH}:{suffix}", row.proof)
    if row.alone:
        expected["lone"] = (f"{first}/{LONE}:{suffix}", row.alone)
    assert expected == await shop.proofs()
    assert ["Failover" if row.alone else "CandidateNotProven"] == [reason for reason, _ in await reasons(shop, "lone")]


async def test_one_budget_is_spent_where_nobody_answers(shop: Shop, market: Market) -> None:
    """Six workloads and three registries that hang: each is asked once in that time, and not waited for again."""
    hanging = [market.filled(shape=shapes.hang) for _ in range(3)]
    await shop.offer(*(one.domain for one in hanging))
    shop.stage.dead.add(shop.old)
    names = [f"web-{number}" for number in range(6)]
    for name in names:
        await shop.stage.apply(lone(shop, name, f"acme/{name}"))
    stuck = {one["metadata"]["name"]: one for one in await shop.stage.failing(6)}
    event = await shop.stage.event(stuck["web-0"])
    before = asyncio.get_running_loop().time()
    await shop.stage.post(event)
    assert BUDGET_SECONDS <= asyncio.get_running_loop().time() - before < BUDGET_SECONDS + PATIENCE_SECONDS
    expected = {name: (f"{hanging[0].domain}/acme/{name}:v1", "unverified") for name in names}
    assert expected == await shop.proofs()
    assert [["GET /v2/acme/web-0/manifests/v1"]] * 3 == [one.requests for one in hanging]


async def test_dead_registries_cost_no_time(shop: Shop, market: Market) -> None:
    """Where all refuse connections nothing is waited for: the first in order is taken, `unverified`."""
    domains = [market.nobody() for _ in range(2)]
    await shop.offer(*domains)
    event = await shop.fail(lone(shop, "web", PATH))
    await shop.stage.post(event)
    assert {"web": (f"{domains[0]}/{PATH}:v1", "unverified")} == await shop.proofs()
