"""Who we are to a registry: tokens, passwords, and who gets to see them."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from saffire.registry.availability import Availability, Available, Denied, Throttled, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.credentials import Credential
from testkit import scripted_registry as shapes
from testkit.check_registry import LATE, WEB, check, question, running_registry, transport
from testkit.scripted_registry import Registry

ALICE = Credential(username="alice", password="s3cret: ü")  # noqa: S106 - nobody's
MALLORY = Credential(username="mallory", password="guess")  # noqa: S106 - nobody's


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """Give a registry that asks for a token."""
    async with running_registry() as started:
        started.challenge = "Bearer"
        yield started


def as_one_of(registry: Registry, *credentials: Credential, path: str = "acme/web:v1") -> Question:
    """Return a question, asked as one of these."""
    return replace(question(f"{registry.domain}/{path}"), credentials=credentials)


async def test_anybody_gets_a_token_for_a_public_image(registry: Registry) -> None:
    """It is asked for with the scope of the one repository, to pull."""
    assert isinstance(await check(as_one_of(registry)), Available)
    assert [" repository:acme/web:pull"] == registry.tokens_given


async def test_any_kind_of_image_is_asked_for(registry: Registry) -> None:
    """Whoever leaves out a kind is answered with another image, of another digest."""
    heard: list[str] = []

    async def listen(request: web.Request) -> None:
        heard.append(request.headers["Accept"])

    registry.shape = shapes.on("/manifests/", listen)
    await check(as_one_of(registry))
    kinds = [
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
    ]
    assert [kinds] * 2 == [sorted(accepted.split(", ")) for accepted in heard]


async def test_a_private_image_wants_a_password(registry: Registry) -> None:
    """Without one, or with a wrong one, nothing is known of it; with the right one everything."""
    registry.users = {"alice": ALICE.password}
    assert Denied() == await check(as_one_of(registry))
    assert Denied() == await check(as_one_of(registry, MALLORY))
    assert isinstance(await check(as_one_of(registry, ALICE)), Available)
    assert ["alice repository:acme/web:pull"] == registry.tokens_given


@pytest.mark.parametrize("challenge", ["Bearer", "Basic"])
async def test_credentials_are_tried_in_turn(challenge: str, registry: Registry) -> None:
    """As the kubelet does: the next one is tried where one is denied."""
    registry.challenge = challenge
    registry.users = {"alice": ALICE.password}
    assert isinstance(await check(as_one_of(registry, MALLORY, ALICE)), Available)


async def test_a_password_is_told_to_whoever_asks_for_it(registry: Registry) -> None:
    """Basic authentication sends it, and only after the registry asked."""
    registry.challenge = "Basic"
    registry.users = {"alice": ALICE.password}
    assert isinstance(await check(as_one_of(registry, ALICE)), Available)
    told = "Basic " + base64.b64encode(f"alice:{ALICE.password}".encode()).decode()
    assert ["", told] == registry.authorizations
    assert Denied() == await check(as_one_of(registry))


async def test_a_token_is_kept_while_it_is_good(registry: Registry) -> None:
    """It serves for the next question about its repository, and for no other and nobody else."""
    registry.push("acme/other:v1", WEB)
    now = 0.0
    async with ImageChecker(transport(registry.domain), clock=lambda: now) as registries:

        async def ask_again(asked: Question) -> Availability:
            return (await registries.check([asked], budget_seconds=2))[asked]

        for minutes in (0, 1, 2):
            now = minutes * 60
            assert isinstance(await ask_again(as_one_of(registry)), Available)
        assert [" repository:acme/web:pull"] == registry.tokens_given
        await ask_again(as_one_of(registry, path="acme/other:v1"))
        registry.users = {"alice": ALICE.password}
        await ask_again(as_one_of(registry, ALICE))
        now = 400
        await ask_again(as_one_of(registry, ALICE))
    web, other, alice = "repository:acme/web:pull", "repository:acme/other:pull", "alice repository:acme/web:pull"
    assert [f" {web}", f" {other}", alice] == registry.tokens_given[:3]
    assert [alice] == registry.tokens_given[3:]


async def test_who_has_asked_for_a_token_is_not_waited_for_to_ask_again(registry: Registry) -> None:
    """The next repository's token is there with the first question; where there is none to be had, it goes without."""
    for name in ("other", "third"):
        registry.push(f"acme/{name}:v1", WEB)
    async with ImageChecker(transport(registry.domain)) as registries:
        await registries.check([as_one_of(registry)], budget_seconds=2)
        registry.requests.clear()
        await registries.check([as_one_of(registry, path="acme/other:v1")], budget_seconds=2)
        assert ["GET /token", "GET /v2/acme/other/manifests/v1"] == registry.requests
        registry.challenge = ""
        registry.shape = shapes.on("/token", shapes.status(500))
        third = replace(as_one_of(registry, path="acme/third:v1"), strict=True)
        registry.requests.clear()
        answers = await registries.check([third], budget_seconds=2)
        assert isinstance(answers[third], Available)
        assert 1 == registry.requests.count("GET /token")


async def test_one_token_is_for_all_parts_of_an_image(registry: Registry) -> None:
    """Index, manifest, config and layers: the registry asks once."""
    assert isinstance(await check(replace(as_one_of(registry), strict=True)), Available)
    assert [" repository:acme/web:pull"] == registry.tokens_given
    assert ["", "", *["Bearer token-1"] * 5] == registry.authorizations


async def test_a_token_that_is_not_taken_any_more_is_asked_for_anew(registry: Registry) -> None:
    """A registry may forget it before its time."""
    async with ImageChecker(transport(registry.domain), clock=iter(range(0, 10**6, 20)).__next__) as registries:
        asked = as_one_of(registry)
        await registries.check([asked], budget_seconds=2)
        registry.shape = forgotten("Bearer token-1", registry)
        answers = await registries.check([asked], budget_seconds=2)
    assert isinstance(answers[asked], Available)
    assert 2 == len(registry.tokens_given)


def forgotten(authorization: str, registry: Registry) -> shapes.Shape:
    """Answer 401 to whoever has this token."""

    async def shape(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") != authorization:
            return None
        return web.Response(
            status=401, headers={"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="x"'}
        )

    return shape


async def test_a_registry_that_takes_no_token_at_all_is_asked_twice_only(registry: Registry) -> None:
    """So Docker Hub answered for public images on 24 September 2025."""
    challenge = {"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="x"'}
    registry.shape = shapes.on("/v2/", shapes.status(401, challenge))
    assert Denied() == await check(as_one_of(registry))
    manifest = "GET /v2/acme/web/manifests/v1"
    assert [manifest, "GET /token", manifest] == registry.requests


async def test_a_realm_elsewhere_is_asked_as_who_we_are(registry: Registry) -> None:
    """The registry that the password is for says where it is to be shown."""
    async with running_registry() as realm:
        registry.realm = f"{realm.url}/token?account=x"
        realm.users = {"alice": ALICE.password}
        assert isinstance(await check(as_one_of(registry, ALICE), realm.domain), Available)
        assert ["alice repository:acme/web:pull"] == realm.tokens_given


async def test_a_realm_that_redirects_gives_nobody_the_password(registry: Registry) -> None:
    """Only the realm itself is told it."""
    async with running_registry() as thief:
        registry.shape = shapes.on("/token", shapes.redirect(thief.url))
        assert isinstance(await check(as_one_of(registry, ALICE), thief.domain), Available)
        assert [""] == thief.authorizations


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (shapes.status(500), Unreachable("its token endpoint: it answered 500")),
        (shapes.status(404), Unreachable("its token endpoint: it answered 404")),
        (shapes.status(401), Denied()),
        (shapes.status(403), Denied()),
        (shapes.status(429, {"Retry-After": "5"}), Throttled(5)),
        (shapes.hang, Unreachable(LATE)),
        (shapes.drip, Unreachable(LATE)),
        (shapes.huge, Unreachable("its token endpoint: its answer is larger than 65536 bytes")),
        (shapes.redirect_loop, Unreachable("its token endpoint: it redirects without end")),
        (shapes.body(b"{}", "application/json"), Unreachable("its token endpoint gave no token")),
        (shapes.body(b'{"token": "a\\r\\nX: b"}', "application/json"), Unreachable("its token endpoint gave no token")),
        (shapes.body(b'{"access_token": "token-x"}', "application/json"), None),
    ],
)
async def test_what_token_endpoints_answered(
    shape: shapes.Shape, expected: Availability | None, registry: Registry
) -> None:
    """Without a token nothing is known of the image, and never that it is absent."""
    registry.shape = shapes.on("/token", shape)
    answer = await check(as_one_of(registry, ALICE))
    assert isinstance(answer, Available) if expected is None else expected == answer


@pytest.mark.parametrize("part", ["alice", "s3cret"])
async def test_nothing_shows_a_password(part: str, registry: Registry) -> None:
    """Neither the question, nor what is made of it, nor what tells credentials apart."""
    asked = as_one_of(registry, ALICE)
    async with ImageChecker(transport(registry.domain)) as registries:
        answers = await registries.check([asked], budget_seconds=2)
        shown = [repr(ALICE), repr(asked), str(answers), repr(vars(registries)), json.dumps(registry.requests)]
        assert not [each for each in shown if part in each]
