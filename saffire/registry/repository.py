"""Requests a manifest, an index or a blob of one repository, with one credential or none."""

from collections.abc import Mapping
from types import MappingProxyType

from saffire.registry.auth import TokenStore
from saffire.registry.availability import Incomplete, KnownBad, Unreachable
from saffire.registry.credentials import Credential
from saffire.registry.manifests import MEDIA_TYPES, BrokenImage, ImageManifest, Index, InvalidImage, read_image
from saffire.registry.reference import Repository
from saffire.registry.transport import MAX_BODY, Answered, RegistryTransport, Response

_ACCEPT = ", ".join(MEDIA_TYPES)


class RepositoryClient:
    """
    A client for one repository at its registry.

    Args:
        repository: the repository.
        credential: the credential for all requests; `None` to send the requests anonymously.
        transport: sends the requests.
        tokens: gets and caches bearer tokens.

    """

    def __init__(
        self,
        repository: Repository,
        credential: Credential | None,
        *,
        transport: RegistryTransport,
        tokens: TokenStore,
    ) -> None:
        self._repository = repository
        self._credential = credential
        self._transport = transport
        self._tokens = tokens
        self._authorization: str | None = None

    async def fetch(
        self, method: str, path: str, *, limit: int = 0, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Response:
        """
        Send a request and return the response; after a 401, authenticate and send the request again.

        If the registry refuses a token that Saffire got for the credential, Saffire first sends the request without it:
        a password goes only to the token endpoint that the repository names in response to a request without one.

        Args:
            method: the HTTP method.
            path: the URL path below the repository, such as `manifests/v1`.
            limit: the largest body to read, in bytes; 0 to read no body.
            headers: the headers to send besides `Accept` and `Authorization`.

        """
        if self._authorization is None:
            self._authorization = await self._tokens.preemptive_authorization(self._repository, self._credential)
        sent = self._authorization
        response = await self._send(method, path, headers, limit)
        if response.is_challenge and sent and self._credential:
            self._authorization = ""
            response = await self._send(method, path, headers, limit)
        if not response.is_challenge:
            return response
        self._authorization = await self._tokens.authorization(self._repository, self._credential, response)
        return await self._send(method, path, headers, limit)

    async def image(self, path: str, *, digest: str, absent: KnownBad) -> tuple[str, Index | ImageManifest]:
        """
        Return the digest and the content of a manifest or index; raise `Answered` if the registry gives none.

        Args:
            path: the URL path below the repository, such as `manifests/v1`.
            digest: the digest that the body has to match; `""` if the caller does not know the digest.
            absent: the answer to raise if the registry has no manifest at this path.

        """
        response = await self.fetch("GET", path, limit=MAX_BODY)
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

    async def _send(self, method: str, path: str, headers: Mapping[str, str], limit: int) -> Response:
        all_headers = {"Accept": _ACCEPT} if path.startswith("manifests/") else {}
        if self._authorization:
            all_headers["Authorization"] = self._authorization
        return await self._transport.request(
            self._repository.domain,
            method,
            f"/v2/{self._repository.path}/{path}",
            headers={**all_headers, **headers},
            limit=limit,
        )
