"""
Authentication at registries: reads challenges, requests tokens and caches them.

A registry that requires authentication answers 401 with a *challenge* in `WWW-Authenticate` (RFC 9110, section 11.6.1).
The challenge `Basic` asks for the password itself. The challenge `Bearer` asks for a token. A token endpoint, the
*realm*, gives such a token for a *service* and a *scope* (distribution, spec/auth/token). Saffire caches a token until
shortly before it expires, per repository and credential, and sends it to the repository's registry only.

One registry may serve the repositories of several owners, and one owner may name a realm of their own. So a password
goes to two places only: to the registry that the Secret is for, and to the realm that this very repository named in
response to a request without the password. Saffire caches this challenge per repository, so that the next token is
requested before the registry asks for it. The first question about a repository with a password costs three round
trips: the challenge, the token, the answer.

Anonymous questions risk no password, but a stranger's realm would see the names of other repositories, and could delay
the answers about them. So the first anonymous question about a repository uses the challenge of the registry as a
whole, which no owner of a repository can change: the response to `GET /v2/` (distribution-spec, end-1). Saffire sends
this request once, and only to a registry of which a repository has asked for a token. After that, the first anonymous
question about a repository costs two round trips: the token, the answer. If each takes 20 ms, that is 44 ms with the
work in between, instead of 66.

Saffire sends a password over plain HTTP only if the operator lists the host as insecure.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from yarl import URL

from saffire.registry.availability import Denied, Unreachable
from saffire.registry.credentials import Credential
from saffire.registry.reference import Repository
from saffire.registry.transport import MAX_SMALL_BODY, Answered, RegistryTransport, Response
from saffire.ttl_cache import TtlCache

_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
# Printable ASCII, as headers require, and twice the length that most servers accept.
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
# The lifetime of a token that names none (spec/auth/token), and the longest that Saffire uses a token.
_DEFAULT_SECONDS = 60
_MAX_SECONDS = 3600
# Saffire uses a token for this part of the token's lifetime, so that it does not expire on its way to the registry.
_USED_LIFETIME = 0.9
_MAX_CACHED = 1024
_CHALLENGE_SECONDS = 600


# Challenges and tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """
    A way of authentication that a registry accepts, from its `WWW-Authenticate` header.

    `scheme` is in lower case, such as `basic` or `bearer`. For `bearer`, `realm` is the URL of the token endpoint and
    `service` is the name of the registry there. Both are `""` if the header names none.
    """

    scheme: str
    realm: str = ""
    service: str = ""


# In place of the challenge of a registry as a whole: it was not requested yet; the registry has none.
_NOT_REQUESTED, _NO_CHALLENGE = Challenge(scheme="not requested"), Challenge(scheme="none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token and its lifetime in seconds; `repr` does not show the token."""

    value: str = field(repr=False)
    seconds: int


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """
    Read the challenges in the values of `WWW-Authenticate`. Each value may contain several challenges.

    >>> parse_challenges(['Bearer realm="https://auth.example.com/token",service="registry"'])
    (Challenge(scheme='bearer', realm='https://auth.example.com/token', service='registry'),)
    """
    return tuple(challenge for header in headers for challenge in _challenges(header))


def parse_token(body: bytes) -> Token | None:
    """
    Read the token in the response of a token endpoint.

    Return `None` if the response has no token, or one that an HTTP header cannot contain.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    value, seconds = answer.get("token") or answer.get("access_token"), answer.get("expires_in")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        return None
    if not isinstance(seconds, int | float) or not seconds > 0:
        seconds = _DEFAULT_SECONDS
    return Token(value=value, seconds=int(min(seconds, _MAX_SECONDS)))


def _challenges(header: str) -> Iterator[Challenge]:
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            name, quoted, plain = parameter.groups()
            parameters.setdefault(name.lower(), plain or re.sub(r"\\(.)", r"\1", quoted))
        yield Challenge(
            scheme=scheme[1].lower(), realm=parameters.get("realm", ""), service=parameters.get("service", "")
        )


# The cache of tokens


class TokenStore:
    """
    Gets the bearer tokens of one process from token endpoints (realms), and caches them.

    Args:
        transport: sends the requests to token endpoints.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, transport: RegistryTransport, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._authorizations: TtlCache[tuple[Repository, bytes], str] = TtlCache(_MAX_CACHED, clock)
        # The bearer challenge that each repository has named itself, in response to a request without a password.
        self._challenges: TtlCache[Repository, Challenge] = TtlCache(_MAX_CACHED, clock)
        # By the domain of a registry that asks for tokens: the challenge of the registry as a whole.
        self._registry_challenges: TtlCache[str, Challenge] = TtlCache(_MAX_CACHED, clock)
        self._salt = secrets.token_bytes(16)

    def fingerprint(self, credential: Credential | None) -> bytes:
        """Return a salted hash that tells credentials apart without revealing them; `b""` for no credential."""
        if credential is None:
            return b""
        text = f"{len(credential.username)}:{credential.username}{credential.password}".encode(errors="replace")
        return hashlib.blake2b(text, key=self._salt).digest()

    async def preemptive_authorization(self, repository: Repository, credential: Credential | None) -> str:
        """
        Return the `Authorization` header for the first request to a repository.

        Its token is a cached one. If none is cached, it is a new one, by the challenge that the repository sent within
        the last 10 minutes. If there is no such challenge, and no credential, it is a new one by the challenge of the
        registry as a whole. If there is no token by any of these, return `""`.
        """
        cached = self._authorizations.get((repository, self.fingerprint(credential)))
        if cached:
            return cached
        bearer = self._challenges.get(repository)
        if bearer is None and credential is None:
            bearer = await self._challenge_of_registry(repository.domain)
        if bearer is None:
            return ""
        try:
            return await self._token(bearer, repository, credential)
        except Answered:
            return ""  # the registry may need no token for this repository; if it needs one, it answers 401

    async def authorization(self, repository: Repository, credential: Credential | None, response: Response) -> str:
        """
        Return the `Authorization` header that a 401 response of a repository asks for.

        The response must be one to a request without a password, and without a token that was given for a password.
        Raise `Answered` if Saffire has no credential for the challenge, or cannot get a token.
        """
        challenges = _challenges_by_scheme(response)
        if bearer := challenges.get("bearer"):
            self._challenges.put(repository, bearer, _CHALLENGE_SECONDS)
            if self._registry_challenges.get(repository.domain) is None:
                self._registry_challenges.put(repository.domain, _NOT_REQUESTED, _CHALLENGE_SECONDS)
            return await self._token(bearer, repository, credential)
        if credential and "basic" in challenges:
            return _basic(credential)
        raise Answered(Denied())

    async def _challenge_of_registry(self, domain: str) -> Challenge | None:
        """Return the bearer challenge of a registry as a whole, if both it and a repository there have one."""
        challenge = self._registry_challenges.get(domain)
        if challenge is _NOT_REQUESTED:
            # If the registry does not respond, this costs a single question about its repositories, and not each.
            self._registry_challenges.put(domain, challenge := _NO_CHALLENGE, _CHALLENGE_SECONDS)
            with suppress(Answered):
                response = await self._transport.request(domain, "GET", "/v2/", headers={}, limit=MAX_SMALL_BODY)
                if response.is_challenge:
                    challenge = _challenges_by_scheme(response).get("bearer", _NO_CHALLENGE)
                    self._registry_challenges.put(domain, challenge, _CHALLENGE_SECONDS)
        return challenge if challenge and challenge.scheme == "bearer" else None

    async def _token(self, bearer: Challenge, repository: Repository, credential: Credential | None) -> str:
        """Request a token from the realm of a challenge, cache the token, and return the `Authorization` header."""
        token = parse_token((await self._request_token(bearer, repository, credential)).body)
        if token is None:
            raise Answered(Unreachable("its token endpoint gave no token"))
        authorization = f"Bearer {token.value}"
        key = repository, self.fingerprint(credential)
        self._authorizations.put(key, authorization, token.seconds * _USED_LIFETIME)
        return authorization

    async def _request_token(
        self, bearer: Challenge, repository: Repository, credential: Credential | None
    ) -> Response:
        """Return the realm's response to a request for a token for pulls, whatever scope the challenge names."""
        try:
            realm = URL(bearer.realm)
            # The realm may have a query of its own.
            url = realm.update_query({"service": bearer.service, "scope": f"repository:{repository.path}:pull"})
        except ValueError as error:
            raise Answered(Unreachable("its token endpoint has no address")) from error
        headers = {"Authorization": _basic(credential)} if credential else {}
        try:
            response = await self._transport.send("GET", url, headers=headers, limit=MAX_SMALL_BODY)
            response.check(Unreachable("it answered 404"))
        except Answered as answered:
            # A registry that asks for a token is of no more use without its token endpoint than without an answer.
            if isinstance(answered.answer, Unreachable):
                why = f"its token endpoint: {answered.answer.why}"
                raise Answered(replace(answered.answer, why=why)) from answered
            raise
        return response


def _challenges_by_scheme(response: Response) -> dict[str, Challenge]:
    headers = response.headers.getall("WWW-Authenticate", [])
    return {challenge.scheme: challenge for challenge in parse_challenges(headers)}


def _basic(credential: Credential) -> str:
    user_pass = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(user_pass).decode()}"
