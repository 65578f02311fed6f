"""Authentication at registries: tokens, passwords, and the hosts that get them."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from aiohttp import web

from saffire.registry.availability import Availability, Available, Denied, Throttled, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.credentials import Credential
from testkit import scripted_registry as shapes
from testkit.check_registry import LATE, WEB, check, question, running_registry, transport
from testkit.scripted_registry import Registry

ALICE = Credential(username="alice", password="s3cret: ü")  # noqa: S106 - a made-up password
MALLORY = Credential(username="mallory", password="guess")  # noqa: S106 - a made-up password


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """Yield a registry that asks for a token."""
    async with running_registry() as started:
        started.challenge = "Bearer"
        yield started


def web_as(registry: Registry, *credentials: Credential, path: str = "acme/web:v1") -> Question:
    """Return a question about an image, to be asked with these credentials in turn."""
    return replace(question(f"{registry.domain}/{path}"), credentials=credentials)


async def test_anybody_gets_a_token_for_a_public_image(registry: Registry) -> None:
    """The token has the scope to pull from this repository."""
    assert isinstance(await check(web_as(registry)), Available)
    assert [" repository:acme/web:pull"] == registry.tokens_given


async def test_all_media_types_are_accepted(registry: Registry) -> None:
    """If a request leaves one out, the registry may convert the image, which changes its digest."""
    accept_headers: list[str] = []

    async def record_accept(request: web.Request) -> None:
        accept_headers.append(request.headers["Accept"])

    registry.shape = shapes.on("/manifests/", record_accept)
    await check(web_as(registry))
    media_types = [
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
    ]
    assert [media_types] * 2 == [sorted(header.split(", ")) for header in accept_headers]


async def test_a_private_image_needs_a_password(registry: Registry) -> None:
    """Without a password, or with a wrong one, the answer is `Denied`."""
    registry.users = {"alice": ALICE.password}
    assert Denied() == await check(web_as(registry))
    assert Denied() == await check(web_as(registry, MALLORY))
    assert isinstance(await check(web_as(registry, ALICE)), Available)
    assert ["alice repository:acme/web:pull"] == registry.tokens_given


@pytest.mark.parametrize("challenge", ["Bearer", "Basic"])
async def test_credentials_are_tried_in_turn(challenge: str, registry: Registry) -> None:
    """If a registry denies one credential, the next one is tried, as the kubelet does."""
    registry.challenge = challenge
    registry.users = {"alice": ALICE.password}
    assert isinstance(await check(web_as(registry, MALLORY, ALICE)), Available)


async def test_a_password_is_sent_to_a_registry_that_asks_for_it(registry: Registry) -> None:
    """Basic authentication sends it only after the registry's challenge."""
    registry.challenge = "Basic"
    registry.users = {"alice": ALICE.password}
    assert isinstance(await check(web_as(registry, ALICE)), Available)
    basic = "Basic " + base64.b64encode(f"alice:{ALICE.password}".encode()).decode()
    assert ["", basic] == registry.authorizations
    assert Denied() == await check(web_as(registry))


async def test_a_token_is_cached_until_it_expires(registry: Registry) -> None:
    """It is used for further questions about its repository, not for another repository or credential."""
    registry.push("acme/other:v1", WEB)
    now = 0.0
    async with ImageChecker(transport(registry.domain), clock=lambda: now) as checker:

        async def ask(image_question: Question) -> Availability:
            return (await checker.check([image_question], budget_seconds=2))[image_question]

        for minutes in (0, 1, 2):
            now = minutes * 60
            assert isinstance(await ask(web_as(registry)), Available)
        assert [" repository:acme/web:pull"] == registry.tokens_given
        await ask(web_as(registry, path="acme/other:v1"))
        registry.users = {"alice": ALICE.password}
        await ask(web_as(registry, ALICE))
        now = 400
        await ask(web_as(registry, ALICE))
    web, other, alice = "repository:acme/web:pull", "repository:acme/other:pull", "alice repository:acme/web:pull"
    assert [f" {web}", f" {other}", alice] == registry.tokens_given[:3]
    assert [alice] == registry.tokens_given[3:]


async def test_a_token_is_requested_before_the_registry_asks_again(registry: Registry) -> None:
    """
    Without a password, the first question about a repository costs two requests, once the registry has named its realm.

    If no token can be had, the request for the manifest has none.
    """
    for name in ("second", "other", "third"):
        registry.push(f"acme/{name}:v1", WEB)
    async with ImageChecker(transport(registry.domain)) as checker:
        await checker.check([web_as(registry)], budget_seconds=2)
        registry.requests.clear()
        await checker.check([web_as(registry, path="acme/second:v1")], budget_seconds=2)
        assert ["GET /v2/", "GET /token", "GET /v2/acme/second/manifests/v1"] == registry.requests
        registry.requests.clear()
        await checker.check([web_as(registry, path="acme/other:v1")], budget_seconds=2)
        assert ["GET /token", "GET /v2/acme/other/manifests/v1"] == registry.requests
        registry.challenge = ""
        registry.shape = shapes.on("/token", shapes.status(500))
        third = replace(web_as(registry, path="acme/third:v1"), strict=True)
        registry.requests.clear()
        answers = await checker.check([third], budget_seconds=2)
        assert isinstance(answers[third], Available)
        assert 1 == registry.requests.count("GET /token")


async def test_one_token_is_for_all_parts_of_an_image(registry: Registry) -> None:
    """The requests for index, manifest, config and layers use one token."""
    assert isinstance(await check(replace(web_as(registry), strict=True)), Available)
    assert [" repository:acme/web:pull"] == registry.tokens_given
    assert ["", "", *["Bearer token-1"] * 5] == registry.authorizations


async def test_a_token_that_the_registry_refuses_is_replaced(registry: Registry) -> None:
    """A registry may forget a token before it expires."""
    async with ImageChecker(transport(registry.domain), clock=ages()) as checker:
        web_question = web_as(registry)
        await checker.check([web_question], budget_seconds=2)
        registry.shape = forgotten("Bearer token-1", registry)
        answers = await checker.check([web_question], budget_seconds=2)
    assert isinstance(answers[web_question], Available)
    assert 2 == len(registry.tokens_given)


def forgotten(authorization: str, registry: Registry) -> shapes.Shape:
    """Answer 401 to requests with this token."""

    async def shape(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") != authorization:
            return None
        return web.Response(
            status=401, headers={"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="x"'}
        )

    return shape


async def test_a_registry_that_refuses_every_token_gets_two_requests(registry: Registry) -> None:
    """Docker Hub refused all tokens for public images on 24 September 2025."""
    challenge = {"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="x"'}
    registry.shape = shapes.on("/v2/", shapes.status(401, challenge))
    assert Denied() == await check(web_as(registry))
    manifest = "GET /v2/acme/web/manifests/v1"
    assert [manifest, "GET /token", manifest] == registry.requests


async def test_a_realm_on_another_host_gets_the_password(registry: Registry) -> None:
    """The registry that the password is for names the realm."""
    async with running_registry() as realm:
        registry.realm = f"{realm.url}/token?account=x"
        realm.users = {"alice": ALICE.password}
        assert isinstance(await check(web_as(registry, ALICE), realm.domain), Available)
        assert ["alice repository:acme/web:pull"] == realm.tokens_given


def owned(owner: str, realm: str) -> shapes.Shape:
    """Answer 401 to every request for the repositories of an owner, and name this realm."""
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="registry"'}
    return shapes.on(f"/v2/{owner}/", shapes.status(401, challenge))


@pytest.mark.parametrize("credentials", [(), (ALICE,)], ids=["anonymous", "with a password"])
async def test_an_owner_s_realm_hears_nothing_of_the_other_owners(
    credentials: tuple[Credential, ...], registry: Registry
) -> None:
    """A registry serves two owners. The token server of one of them learns no path and no password of the other."""
    registry.users = {"alice": ALICE.password} if credentials else {}
    async with running_registry() as thief, ImageChecker(transport(registry.domain, thief.domain)) as checker:
        registry.shape = owned("evil", f"{thief.url}/token")
        evil, web_question = web_as(registry, path="evil/x:v1"), web_as(registry, *credentials)
        for asked in (evil, web_question, evil, replace(web_question, strict=True)):
            answers = await checker.check([asked], budget_seconds=2)
            assert (asked is evil) == (not isinstance(answers[asked], Available))
        assert {" repository:evil/x:pull"} == set(thief.tokens_given)
        assert {""} == set(thief.authorizations)


async def test_a_realm_that_does_not_answer_delays_no_other_owner(registry: Registry) -> None:
    """Whoever names a token server that hangs makes only their own repository late."""
    async with running_registry() as tarpit, ImageChecker(transport(registry.domain, tarpit.domain)) as checker:
        tarpit.shape = shapes.hang
        registry.shape = owned("evil", f"{tarpit.url}/token")
        evil, web_question = web_as(registry, path="evil/x:v1"), web_as(registry)
        await checker.check([evil], budget_seconds=0.2)
        assert isinstance((await checker.check([web_question], budget_seconds=2))[web_question], Available)
        assert ["GET /token"] == tarpit.requests


@pytest.mark.parametrize(
    ("shape", "expected", "is_server_error"),
    [
        (shapes.status(503), "its token endpoint: it answered 503", True),
        (shapes.disconnect, "its token endpoint: it closed the connection", False),
        (shapes.redirect("https://127.0.0.1:1"), "its token endpoint: connection refused", False),
        (shapes.hang, LATE, False),
    ],
    ids=["5xx", "closes", "redirects", "hangs"],
)
async def test_a_registry_whose_realm_is_down_is_down(
    shape: shapes.Shape, expected: str, *, is_server_error: bool, registry: Registry
) -> None:
    """Nobody gets an image without a token, whatever way the realm fails."""
    registry.shape = shapes.on("/token", shape)
    answer = await check(web_as(registry), "127.0.0.1:1")
    assert Unreachable(expected) == answer
    assert isinstance(answer, Unreachable)
    assert (True, is_server_error) == (answer.is_silent, answer.is_server_error)


@pytest.mark.parametrize(
    "shape",
    [
        shapes.status(200),
        shapes.status(401),
        shapes.status(401, {"WWW-Authenticate": "Basic"}),
        shapes.status(500),
        shapes.redirect("http://example.com"),
        shapes.hang,
    ],
)
async def test_a_registry_without_a_realm_of_its_own_is_asked_as_before(
    shape: shapes.Shape, registry: Registry
) -> None:
    """Then each repository names the realm itself. If the registry gives no answer, one question has none either."""
    for name in ("second", "third", "fourth"):
        registry.push(f"acme/{name}:v1", WEB)

    async def on_the_root(request: web.Request) -> web.StreamResponse | None:
        return await shape(request) if request.path == "/v2/" else None

    registry.shape = on_the_root
    async with ImageChecker(transport(registry.domain)) as checker:
        for name in ("web", "second", "third", "fourth"):
            asked = web_as(registry, path=f"acme/{name}:v1")
            answer = (await checker.check([asked], budget_seconds=0.5 if name == "second" else 2))[asked]
            assert isinstance(answer, Available) or (shape is shapes.hang and name == "second")
    assert 1 == registry.requests.count("GET /v2/")


async def test_a_challenge_after_a_redirect_of_the_registry_s_root_counts_nothing(registry: Registry) -> None:
    """Only the registry itself names a realm for all its repositories."""
    registry.push("acme/other:v1", WEB)
    async with running_registry() as thief, ImageChecker(transport(registry.domain, thief.domain)) as checker:
        thief.challenge = "Bearer"

        async def root(request: web.Request) -> web.StreamResponse | None:
            return await shapes.redirect(thief.url)(request) if request.path == "/v2/" else None

        registry.shape = root
        for path in ("acme/web:v1", "acme/other:v1"):
            asked = web_as(registry, path=path)
            assert isinstance((await checker.check([asked], budget_seconds=2))[asked], Available)
        assert ["GET /v2/"] == thief.requests


async def test_a_repository_that_changes_its_realm_is_asked_without_the_password_first(registry: Registry) -> None:
    """If a token is refused, the password waits until the repository has named a realm to somebody without one."""
    registry.users = {"alice": ALICE.password}
    web_question = web_as(registry, ALICE)
    async with running_registry() as thief, running_registry() as moved:
        thief.users = moved.users = {"alice": ALICE.password}
        async with ImageChecker(transport(registry.domain, thief.domain, moved.domain), clock=ages()) as checker:
            await checker.check([web_question], budget_seconds=2)
            registry.shape = by_authorization(f"{thief.url}/token", f"{moved.url}/token")
            await checker.check([web_question], budget_seconds=2)
        assert [] == thief.requests
        assert ["alice repository:acme/web:pull"] == moved.tokens_given


def ages() -> Callable[[], float]:
    """Return a clock that is 20 s later each time, so that no answer is cached."""
    return iter(range(0, 10**6, 20)).__next__


def by_authorization(with_one: str, without: str) -> shapes.Shape:
    """Answer 401, and name another realm to those who have an authorization than to those who have none."""

    async def shape(request: web.Request) -> web.StreamResponse | None:
        if not request.path.startswith("/v2/"):
            return None
        realm = with_one if "Authorization" in request.headers else without
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    return shape


async def test_a_redirect_of_a_realm_does_not_get_the_password(registry: Registry) -> None:
    """Only the realm itself gets it."""
    async with running_registry() as thief:
        registry.shape = shapes.on("/token", shapes.redirect(thief.url))
        assert isinstance(await check(web_as(registry, ALICE), thief.domain), Available)
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
async def test_an_answer_of_a_token_endpoint_is_read(
    shape: shapes.Shape, expected: Availability | None, registry: Registry
) -> None:
    """Without a token, the answer is never that the image is absent."""
    registry.shape = shapes.on("/token", shape)
    answer = await check(web_as(registry, ALICE))
    assert isinstance(answer, Available) if expected is None else expected == answer


@pytest.mark.parametrize("part", ["alice", "s3cret"])
async def test_nothing_shows_a_password(part: str, registry: Registry) -> None:
    """`repr` of the question and the checker, with its caches, shows neither user name nor password."""
    web_question = web_as(registry, ALICE)
    async with ImageChecker(transport(registry.domain)) as checker:
        answers = await checker.check([web_question], budget_seconds=2)
        texts = [repr(ALICE), repr(web_question), str(answers), repr(vars(checker)), json.dumps(registry.requests)]
        assert not [text for text in texts if part in text]
