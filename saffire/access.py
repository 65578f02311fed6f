"""
Access: one repository, and who we are to it. Tokens are asked for when one is wanted, and kept while they are good.

Who has wanted a token will want one for the next repository too, so it is asked for first, which spares a round trip.

A token is kept per registry, path and credential, and sent to that registry only: what another one's realm gave is
nothing to it. The password goes to the registry that the Secret is for, and to the realm that this registry names; over
plain HTTP only where the operator lists the host as insecure.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

from yarl import URL

from saffire.availability import Denied, Incomplete, KnownBad, Unreachable
from saffire.cache import Cache
from saffire.challenge import Challenge, parse_challenges, parse_token
from saffire.credentials import Credential
from saffire.distribution import MAX_BODY, MAX_REMARK, Distribution
from saffire.image import MEDIA_TYPES, BrokenImage, ImageManifest, Index, InvalidImage, read_image
from saffire.reference import Repository
from saffire.response import Response, Settled

_ROOM = 1024
_CHALLENGE_SECONDS = 600
_ACCEPT = ", ".join(MEDIA_TYPES)


class Tokens:
    """The tokens of one process. Args: distribution: the way to realms. clock: tells seconds from any start."""

    def __init__(self, distribution: Distribution, clock: Callable[[], float]) -> None:
        self._distribution = distribution
        self._kept: Cache[tuple[Repository, bytes], str] = Cache(_ROOM, clock)
        self._challenges: Cache[str, Challenge] = Cache(_ROOM, clock)
        self._salt = secrets.token_bytes(16)

    def fingerprint(self, credential: Credential | None) -> bytes:
        """Return what tells credentials apart, and says nothing of them."""
        if credential is None:
            return b""
        written = f"{len(credential.username)}:{credential.username}{credential.password}".encode(errors="replace")
        return hashlib.blake2b(written, key=self._salt).digest()

    async def foreseen(self, repository: Repository, credential: Credential | None) -> str:
        """Return the `Authorization` that a registry will ask for, by what it asked before; `""` if it has not."""
        known = self._kept.get((repository, self.fingerprint(credential)))
        bearer = self._challenges.get(repository.domain)
        if known or bearer is None:
            return known or ""
        try:
            return await self._token(bearer, repository, credential)
        except Settled:
            return ""  # it may do without by now; if not, it will say so

    async def authorization(self, repository: Repository, credential: Credential | None, asked: Response) -> str:
        """Return the `Authorization` that a 401 asks for; raise `Settled` where there is none to be had."""
        challenges = {each.scheme: each for each in parse_challenges(asked.headers.getall("WWW-Authenticate", []))}
        if bearer := challenges.get("bearer"):
            self._challenges.keep(repository.domain, bearer, _CHALLENGE_SECONDS)
            return await self._token(bearer, repository, credential)
        if credential and "basic" in challenges:
            return _basic(credential)
        raise Settled(Denied())

    async def _token(self, bearer: Challenge, repository: Repository, credential: Credential | None) -> str:
        """Return the `Authorization` that a realm gives, and keep it while it is good."""
        token = parse_token((await self._asked(bearer, repository, credential)).body)
        if token is None:
            raise Settled(Unreachable("its token endpoint gave no token"))
        authorization = f"Bearer {token.value}"
        # Not to its last second: it has a way to go.
        self._kept.keep((repository, self.fingerprint(credential)), authorization, token.seconds * 0.9)
        return authorization

    async def _asked(self, bearer: Challenge, repository: Repository, credential: Credential | None) -> Response:
        """Ask a realm for a token to pull from one repository, whatever scope the challenge names."""
        try:
            realm = URL(bearer.realm)
            # The realm may have a query of its own.
            url = realm.update_query({"service": bearer.service, "scope": f"repository:{repository.path}:pull"})
        except ValueError as error:
            raise Settled(Unreachable("its token endpoint has no address")) from error
        headers = {"Authorization": _basic(credential)} if credential else {}
        try:
            response = await self._distribution.send("GET", url, headers=headers, limit=MAX_REMARK)
            response.check(Unreachable("it answered 404"))
        except Settled as settled:
            if isinstance(settled.answer, Unreachable):
                raise Settled(Unreachable(f"its token endpoint: {settled.answer.why}")) from settled
            raise
        return response


class Access:
    """The way to one repository, with one credential or none."""

    def __init__(
        self, repository: Repository, credential: Credential | None, *, distribution: Distribution, tokens: Tokens
    ) -> None:
        self._repository = repository
        self._credential = credential
        self._distribution = distribution
        self._tokens = tokens
        self._authorization: str | None = None

    async def fetch(
        self, method: str, what: str, *, limit: int = 0, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Response:
        """Ask for a part of the repository, as `manifests/v1`, and say who we are where that is wanted."""
        if self._authorization is None:
            self._authorization = await self._tokens.foreseen(self._repository, self._credential)
        response = await self._send(method, what, headers, limit)
        if response.status != HTTPStatus.UNAUTHORIZED or response.elsewhere:
            return response
        self._authorization = await self._tokens.authorization(self._repository, self._credential, response)
        return await self._send(method, what, headers, limit)

    async def image(self, what: str, *, digest: str, absent: KnownBad) -> tuple[str, Index | ImageManifest]:
        """Return digest and content of a manifest or index, of `digest` if there is one; raise `Settled` without it."""
        response = await self.fetch("GET", what, limit=MAX_BODY)
        response.check(absent)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Settled(Unreachable("its answer is encoded"))
        try:
            media_type = response.headers.get("Content-Type", "")
            return read_image(response.body, digest=digest or response.digest, media_type=media_type)
        except BrokenImage:
            raise Settled(Incomplete("manifest")) from None
        except InvalidImage:
            raise Settled(Unreachable("it does not answer as a registry")) from None

    async def _send(self, method: str, what: str, headers: Mapping[str, str], limit: int) -> Response:
        told = {"Accept": _ACCEPT} if what.startswith("manifests/") else {}
        if self._authorization:
            told["Authorization"] = self._authorization
        path = f"/v2/{self._repository.path}/{what}"
        return await self._distribution.ask(
            self._repository.domain, method, path, headers={**told, **headers}, limit=limit
        )


def _basic(credential: Credential) -> str:
    written = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(written).decode()}"
