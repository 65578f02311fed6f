"""
Authentication at registries: reads challenges, requests tokens and caches them.

A registry that requires authentication answers 401 with a *challenge* in `WWW-Authenticate` (RFC 9110, section 11.6.1).
The challenge `Basic` asks for the password itself. The challenge `Bearer` asks for a token. A token endpoint, the
*realm*, gives such a token for a *service* and a *scope* (distribution, spec/auth/token). Saffire caches a token until
shortly before it expires. If a registry has asked for a token once, Saffire requests the token for the registry's next
repository before the first request to that repository, which saves a round trip.

A token is cached per registry, path and credential, and Saffire sends it to that registry only. Saffire sends a
password to the registry that the Secret is for, and to the realm that this registry names. Saffire sends a password
over plain HTTP only if the operator lists the host as insecure.
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
# Saffire uses a token for this share of the token's lifetime, so that it does not expire on its way to the registry.
_LIFETIME_SHARE = 0.9
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
        # By a registry's domain: the last bearer challenge of the registry.
        self._challenges: TtlCache[str, Challenge] = TtlCache(_MAX_CACHED, clock)
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

        The header has a cached token, or a new one by the registry's last challenge. Return `""` if no token is cached
        and the registry has sent no bearer challenge in the last 10 minutes, or gives no token now.
        """
        cached = self._authorizations.get((repository, self.fingerprint(credential)))
        bearer = self._challenges.get(repository.domain)
        if cached or bearer is None:
            return cached or ""
        try:
            return await self._token(bearer, repository, credential)
        except Answered:
            return ""  # the registry may need no token for this repository; if it needs one, it answers 401

    async def authorization(self, repository: Repository, credential: Credential | None, response: Response) -> str:
        """
        Return the `Authorization` header that a 401 response asks for.

        Raise `Answered` if Saffire has no credential for the challenge, or cannot get a token.
        """
        headers = response.headers.getall("WWW-Authenticate", [])
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(headers)}
        if bearer := challenges.get("bearer"):
            self._challenges.put(repository.domain, bearer, _CHALLENGE_SECONDS)
            return await self._token(bearer, repository, credential)
        if credential and "basic" in challenges:
            return _basic(credential)
        raise Answered(Denied())

    async def _token(self, bearer: Challenge, repository: Repository, credential: Credential | None) -> str:
        """Request a token from the realm of a challenge, cache the token, and return the `Authorization` header."""
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
        """
        Request a token from the realm of a challenge, and return the realm's response.

        The token is for pulls from `repository`, whatever scope the challenge names.
        """
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
