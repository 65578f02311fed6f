"""
Authentication at registries: reads challenges, requests tokens and caches them.

A registry that requires authentication answers 401 with `WWW-Authenticate` (RFC 9110, section 11.6.1). `Basic` asks for
the password itself. `Bearer` asks for a token, which a token endpoint, the *realm*, gives for a *service* and a *scope*
(distribution, spec/auth/token). Tokens are cached until shortly before they expire. If a registry asked for a token
once, Saffire requests the token for its next repository before the first request, which saves a round trip.

A token is cached per registry, path and credential, and is sent to that registry only. The password is sent to the
registry that the Secret is for, and to the realm that this registry names. It is sent over plain HTTP only if the
operator lists the host as insecure.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

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
# A token is used for this share of its lifetime, so that it does not expire on its way to the registry.
_LIFETIME_SHARE = 0.9
_MAX_CACHED = 1024
_CHALLENGE_SECONDS = 600


# Challenges and tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """A scheme of authentication that a registry accepts: `basic`, or `bearer` with the realm that gives tokens."""

    scheme: str
    realm: str = ""
    service: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token and its lifetime in seconds; `repr` does not show the token."""

    value: str = field(repr=False)
    seconds: int


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """
    Read the values of `WWW-Authenticate`; each may contain several challenges.

    >>> parse_challenges(['Bearer realm="https://auth.example.com/token",service="registry"'])
    (Challenge(scheme='bearer', realm='https://auth.example.com/token', service='registry'),)
    """
    return tuple(challenge for header in headers for challenge in _challenges(header))


def parse_token(body: bytes) -> Token | None:
    """Read the answer of a token endpoint; `None` if it has no token that a header can contain."""
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
    Gets the tokens of one process, and caches them.

    Args:
        transport: sends the requests to realms.
        clock: returns seconds since any start.

    """

    def __init__(self, transport: RegistryTransport, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._authorizations: TtlCache[tuple[Repository, bytes], str] = TtlCache(_MAX_CACHED, clock)
        # By the registry's domain: its last bearer challenge.
        self._challenges: TtlCache[str, Challenge] = TtlCache(_MAX_CACHED, clock)
        self._salt = secrets.token_bytes(16)

    def fingerprint(self, credential: Credential | None) -> bytes:
        """Return a salted hash that tells credentials apart without revealing them; `b""` for none."""
        if credential is None:
            return b""
        text = f"{len(credential.username)}:{credential.username}{credential.password}".encode(errors="replace")
        return hashlib.blake2b(text, key=self._salt).digest()

    async def preemptive_authorization(self, repository: Repository, credential: Credential | None) -> str:
        """Return the `Authorization` for a first request, by the registry's last challenge; `""` if it sent none."""
        cached = self._authorizations.get((repository, self.fingerprint(credential)))
        bearer = self._challenges.get(repository.domain)
        if cached or bearer is None:
            return cached or ""
        try:
            return await self._token(bearer, repository, credential)
        except Answered:
            return ""  # the registry may need no token for this repository; if it does, it answers 401

    async def authorization(self, repository: Repository, credential: Credential | None, response: Response) -> str:
        """Return the `Authorization` that a 401 response asks for; raise `Answered` if Saffire cannot get one."""
        headers = response.headers.getall("WWW-Authenticate", [])
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(headers)}
        if bearer := challenges.get("bearer"):
            self._challenges.put(repository.domain, bearer, _CHALLENGE_SECONDS)
            return await self._token(bearer, repository, credential)
        if credential and "basic" in challenges:
            return _basic(credential)
        raise Answered(Denied())

    async def _token(self, bearer: Challenge, repository: Repository, credential: Credential | None) -> str:
        """Request a token from a realm, cache it, and return the `Authorization` with it."""
        token = parse_token((await self._request_token(bearer, repository, credential)).body)
        if token is None:
            raise Answered(Unreachable("its token endpoint gave no token"))
        authorization = f"Bearer {token.value}"
        key = repository, self.fingerprint(credential)
        self._authorizations.put(key, authorization, token.seconds * _LIFETIME_SHARE)
        return authorization

    async def _request_token(
        self, bearer: Challenge, repository: Repository, credential: Credential | None
    ) -> Response:
        """Request a token to pull from one repository, whatever scope the challenge names."""
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
            if isinstance(answered.answer, Unreachable):
                raise Answered(Unreachable(f"its token endpoint: {answered.answer.why}")) from answered
            raise
        return response


def _basic(credential: Credential) -> str:
    user_pass = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(user_pass).decode()}"
