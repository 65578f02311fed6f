"""
The Kubernetes API: one request, and what its answer means.

The `kubernetes` package does configuration, authentication and transport. Bodies stay plain dicts, since its models
would lose fields they do not know. Foreign exceptions stop here; what leaves is a `SaffireError`. `ResourceReader` gets
objects and lists by their URL path; there, absent is no error.
"""

import json
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from saffire.errors import ConflictError, DeniedError, ExpiredError, RefusedError, SaffireError, TransientError
from saffire.kube.manifest import Manifest, items, text

FIELD_MANAGER = "saffire"
JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
# The API server takes 10 ms to compress half a megabyte of pods, and nothing is gained by that within a cluster.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": FIELD_MANAGER}
_CLIP = 512
_DENIED = re.compile(r"denied (?:the )?request")
# What the API server says, without details, when a `test` of a JSON Patch fails (apiserver, endpoints/handlers/patch).
_TEST_FAILED = "the server rejected our request due to an error in our request"


class AbsentError(SaffireError):
    """There is nothing at that path; `is_served` tells whether there could be, since its kind is served."""

    def __init__(self, message: str, *, is_served: bool = True) -> None:
        super().__init__(message)
        self.is_served = is_served


class ApiServer:
    """One API server, as the identity that the environment gives us."""

    def __init__(self, client: ApiClient, *, timeout_seconds: float) -> None:
        self._client = client
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    @classmethod
    async def connect(cls, kubeconfig: str = "", *, timeout_seconds: float) -> Self:
        """
        Read the configuration of the cluster; raise `TransientError` if there is none yet.

        Args:
            kubeconfig: its path; `""` for the pod's service account, else the user's own kubeconfig.
            timeout_seconds: the longest that one request may take.

        """
        configuration = Configuration()
        try:
            if kubeconfig:
                await load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)
            else:
                await _load_default(configuration)
        except Exception as error:  # a kubeconfig may be any file, and the loader trips over it in any way
            raise TransientError(
                f"no cluster is configured: no service account, and no kubeconfig to read ({type(error).__name__})"
            ) from error
        # The HTTP client would look for a proxy, and for passwords in `~/.netrc`, at every request, in threads.
        configuration.client_session_kwargs = {"trust_env": False}
        configuration.proxy = configuration.proxy or _proxy_for(configuration.host)
        return cls(ApiClient(configuration), timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, path: str, *, accept: str = JSON) -> dict[str, Any]:
        """Return the object at `path`, in the form `accept`; raise `AbsentError` where there is none."""
        return _object(await self._request("GET", path, accept=accept))

    async def post(self, path: str, body: Manifest) -> None:
        """Create an object; raise `ConflictError` where there is one of its name."""
        await self._request("POST", path, body)

    async def patch(self, path: str, operations: tuple[Manifest, ...]) -> dict[str, Any]:
        """Send a JSON Patch and return the object after it; one that is gone is one that moved under us."""
        try:
            query = f"?fieldManager={FIELD_MANAGER}"
            return _object(await self._request("PATCH", path + query, list(operations), content_type=_JSON_PATCH))
        except AbsentError as error:
            raise ConflictError("the object is gone") from error

    async def _request(
        self, method: str, path: str, body: Any = None, *, content_type: str = JSON, accept: str = JSON
    ) -> Any:
        """Send one request and return the decoded answer, or raise what its status means."""
        headers = {**_HEADERS, "Accept": accept, "Content-Type": content_type}
        configuration = self._client.configuration
        try:
            token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            if token:
                headers["Authorization"] = token
            response = await self._client.rest_client.request(
                method, configuration.host + path, headers=headers, body=body, _request_timeout=self._timeout
            )
            content = await response.read()
            if response.status == HTTPStatus.NOT_FOUND:
                raise AbsentError("there is no such object, or no such kind", is_served=_names_an_object(content))
            answer = _decoded(content)
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise TransientError(f"the API server did not answer: {type(error).__name__}") from error
        except ValueError as error:
            raise TransientError("the API server did not answer in JSON") from error
        except RecursionError as error:
            raise RefusedError("the API server's answer is nested too deeply to be read") from error
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _error(response.status, answer, retry_after=_seconds(response.headers.get("Retry-After", "")))
        return answer


def _decoded(content: bytes) -> Any:
    """Return what JSON says; raise `ValueError` if it is none, and `RecursionError` if it is nested too deeply."""
    try:
        return orjson.loads(content)
    except ValueError:  # which of them it is, only the other decoder tells
        return json.loads(content)


def _object(answer: Any) -> dict[str, Any]:
    """Return an answer that is an object; raise `TransientError` for any other."""
    if not isinstance(answer, dict):
        raise TransientError("the API server did not answer with an object")
    return answer


def _names_an_object(content: bytes) -> bool:
    """Tell whether a 404 is about one object, rather than about a kind that is not served (`Status.details.name`)."""
    try:
        said = orjson.loads(content)
    except ValueError:
        return False
    details = said.get("details") if isinstance(said, dict) else None
    return isinstance(details, dict) and bool(details.get("name"))


def _seconds(written: str) -> float:
    """Return the seconds of a `Retry-After`; 0 where there are none, since the API server writes no dates there."""
    return float(written) if re.fullmatch(r"[0-9]{1,4}", written) else 0.0


def _error(status: int, answer: Any, *, retry_after: float) -> SaffireError:
    """Return the error that an HTTP status of the API server means; only a Kubernetes `Status` is quoted."""
    said = answer if isinstance(answer, dict) else {}
    details = said.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    message = " ".join(str(said.get("message", "")).split())[:_CLIP]
    # A webhook may deny with any status; the words in front are the API server's own.
    if _DENIED.search(message) or status == HTTPStatus.FORBIDDEN:
        return DeniedError(message or f"the API server answered {status}")
    match status:
        case 409:
            return ConflictError(message)
        case 422 if not causes and message == _TEST_FAILED:
            return ConflictError("the object is no longer what was read")
        # A version was compacted, or a list changed more than is remembered while its pages were read.
        case 410:
            return ExpiredError(message or "the API server answered 410")
        case 401 | 408 | 429:
            return TransientError(f"the API server answered {status}", retry_after=retry_after)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.BAD_REQUEST:
            return TransientError(f"the API server answered {status}", retry_after=retry_after)
        case _:
            return RefusedError(message or f"the API server answered {status}")


def _proxy_for(server: str) -> str | None:
    """Return the proxy that the environment names for a server (`HTTPS_PROXY`, but for what `NO_PROXY` lists)."""
    parts = urlsplit(server)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


async def _load_default(configuration: Configuration) -> None:
    """Configure from the pod's service account, else from the user's kubeconfig."""
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        await load_kube_config(client_configuration=configuration, persist_config=False)


# Lists in that form have the metadata of their objects alone (Kubernetes API Concepts, "Metadata-only fetches").
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# Objects of one page of a list: some megabytes of pods.
_PAGE = 250


class ResourceReader:
    """Reads what `server` has."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def _all(self, path: str, selector: str = "", *, accept: str = JSON) -> AsyncIterator[dict[str, Any]]:
        """Yield what a list holds, page by page, in the form `accept`; nothing where its kind is not served."""
        query = f"{path}?limit={_PAGE}{selector}"
        more = ""
        while True:
            page = await self._get(query + (f"&continue={quote(more, safe='')}" if more else ""), accept=accept)
            if page is None:
                return
            for item in items(page, "items"):
                yield dict(item)
            more = text(page, "metadata", "continue")
            if not more:
                return

    async def _page(self, path: str, query: str = "") -> tuple[Manifest, ...]:
        """Return the first page of a list; nothing where its kind is not served."""
        return items(await self._get(f"{path}?limit={_PAGE}{query}") or {}, "items")

    async def _get(self, path: str, *, accept: str = JSON) -> dict[str, Any] | None:
        """Return the object at `path`; `None` where there is none."""
        try:
            return await self._server.get(path, accept=accept)
        except AbsentError:
            return None
