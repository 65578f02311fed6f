"""One repository, asked with one credential or none: what it answers for a manifest, an index or a blob."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from saffire.registry.auth import TokenStore
from saffire.registry.availability import Incomplete, KnownBad, Unreachable
from saffire.registry.credentials import Credential
from saffire.registry.manifests import MEDIA_TYPES, BrokenImage, ImageManifest, Index, InvalidImage, read_image
from saffire.registry.reference import Repository
from saffire.registry.transport import MAX_BODY, Answered, RegistryTransport, Response

_ACCEPT = ", ".join(MEDIA_TYPES)


class RepositoryClient:
    """The way to one repository, with one credential or none."""

    def __init__(
        self,
        repository: Repository,
        credential: Credential | None,
        *,
        distribution: RegistryTransport,
        tokens: TokenStore,
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
            self._authorization = await self._tokens.known_authorization(self._repository, self._credential)
        response = await self._send(method, what, headers, limit)
        if response.status != HTTPStatus.UNAUTHORIZED or response.elsewhere:
            return response
        self._authorization = await self._tokens.authorization(self._repository, self._credential, response)
        return await self._send(method, what, headers, limit)

    async def image(self, what: str, *, digest: str, absent: KnownBad) -> tuple[str, Index | ImageManifest]:
        """Return digest and content of a manifest or index, of `digest` if there is one; raise `Answered` without it."""
        response = await self.fetch("GET", what, limit=MAX_BODY)
        response.check(absent)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Answered(Unreachable("its answer is encoded"))
        try:
            media_type = response.headers.get("Content-Type", "")
            return read_image(response.body, digest=digest or response.digest, media_type=media_type)
        except BrokenImage:
            raise Answered(Incomplete("manifest")) from None
        except InvalidImage:
            raise Answered(Unreachable("it does not answer as a registry")) from None

    async def _send(self, method: str, what: str, headers: Mapping[str, str], limit: int) -> Response:
        told = {"Accept": _ACCEPT} if what.startswith("manifests/") else {}
        if self._authorization:
            told["Authorization"] = self._authorization
        path = f"/v2/{self._repository.path}/{what}"
        return await self._distribution.request(
            self._repository.domain, method, path, headers={**told, **headers}, limit=limit
        )
