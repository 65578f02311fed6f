"""
How a registry asks who we are, and the tokens that answer it.

A registry that wants to know answers 401 with `WWW-Authenticate` (RFC 9110, section 11.6.1). `Basic` wants the password
itself. `Bearer` wants a token, which its *realm* gives for a *service* and a *scope* (distribution, spec/auth/token).
Tokens are requested when one is wanted, and kept while they are good. A registry that wanted a token will want one for
the next repository too, so that one is requested first, which spares a round trip.

A token is kept per registry, path and credential, and is sent to that registry only. The password goes to the registry
that the Secret is for, and to the realm that this registry names; over plain HTTP only if the operator lists the host
as insecure.
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
from saffire.registry.transport import MAX_REMARK, Answered, RegistryTransport, Response
from saffire.ttl_cache import TtlCache

_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
# What a header can hold, and twice as much as most servers take.
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
# How long a token lasts that does not say (spec/auth/token), and the longest that we take any for.
_DEFAULT_SECONDS = 60
_MAX_SECONDS = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One way to say who we are: `basic`, or `bearer` with a realm to ask for a token."""

    scheme: str
    realm: str = ""
    service: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """What stands for us for so many seconds; it is never shown."""

    value: str = field(repr=False)
    seconds: int


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """
    Read the values of `WWW-Authenticate`, each of which may hold several challenges.

    >>> parse_challenges(['Bearer realm="https://auth.example.com/token",service="registry"'])
    (Challenge(scheme='bearer', realm='https://auth.example.com/token', service='registry'),)
    """
    return tuple(challenge for header in headers for challenge in _challenges(header))


def parse_token(body: bytes) -> Token | None:
    """Read a token server's answer; `None` where there is no token in it that could be sent."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    value, seconds = found.get("token") or found.get("access_token"), found.get("expires_in")
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


_ROOM = 1024
_CHALLENGE_SECONDS = 600


class TokenStore:
    """The tokens of one process. Args: distribution: the way to realms. clock: tells seconds from any start."""

    def __init__(self, distribution: RegistryTransport, clock: Callable[[], float]) -> None:
        self._distribution = distribution
        self._kept: TtlCache[tuple[Repository, bytes], str] = TtlCache(_ROOM, clock)
        self._challenges: TtlCache[str, Challenge] = TtlCache(_ROOM, clock)
        self._salt = secrets.token_bytes(16)

    def fingerprint(self, credential: Credential | None) -> bytes:
        """Return what tells credentials apart, and says nothing of them."""
        if credential is None:
            return b""
        written = f"{len(credential.username)}:{credential.username}{credential.password}".encode(errors="replace")
        return hashlib.blake2b(written, key=self._salt).digest()

    async def known_authorization(self, repository: Repository, credential: Credential | None) -> str:
        """Return the `Authorization` that a registry will ask for, by what it asked before; `""` if it has not."""
        known = self._kept.get((repository, self.fingerprint(credential)))
        bearer = self._challenges.get(repository.domain)
        if known or bearer is None:
            return known or ""
        try:
            return await self._token(bearer, repository, credential)
        except Answered:
            return ""  # it may do without by now; if not, it will say so

    async def authorization(self, repository: Repository, credential: Credential | None, asked: Response) -> str:
        """Return the `Authorization` that a 401 asks for; raise `Answered` where there is none to be had."""
        challenges = {each.scheme: each for each in parse_challenges(asked.headers.getall("WWW-Authenticate", []))}
        if bearer := challenges.get("bearer"):
            self._challenges.put(repository.domain, bearer, _CHALLENGE_SECONDS)
            return await self._token(bearer, repository, credential)
        if credential and "basic" in challenges:
            return _basic(credential)
        raise Answered(Denied())

    async def _token(self, bearer: Challenge, repository: Repository, credential: Credential | None) -> str:
        """Return the `Authorization` that a realm gives, and keep it while it is good."""
        token = parse_token((await self._asked(bearer, repository, credential)).body)
        if token is None:
            raise Answered(Unreachable("its token endpoint gave no token"))
        authorization = f"Bearer {token.value}"
        # Not to its last second: it has a way to go.
        self._kept.put((repository, self.fingerprint(credential)), authorization, token.seconds * 0.9)
        return authorization

    async def _asked(self, bearer: Challenge, repository: Repository, credential: Credential | None) -> Response:
        """Ask a realm for a token to pull from one repository, whatever scope the challenge names."""
        try:
            realm = URL(bearer.realm)
            # The realm may have a query of its own.
            url = realm.update_query({"service": bearer.service, "scope": f"repository:{repository.path}:pull"})
        except ValueError as error:
            raise Answered(Unreachable("its token endpoint has no address")) from error
        headers = {"Authorization": _basic(credential)} if credential else {}
        try:
            response = await self._distribution.send("GET", url, headers=headers, limit=MAX_REMARK)
            response.check(Unreachable("it answered 404"))
        except Answered as settled:
            if isinstance(settled.answer, Unreachable):
                raise Answered(Unreachable(f"its token endpoint: {settled.answer.why}")) from settled
            raise
        return response


def _basic(credential: Credential) -> str:
    written = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(written).decode()}"
